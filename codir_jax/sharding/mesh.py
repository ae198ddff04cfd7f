"""The device mesh: a grid of ``data`` x ``fsdp`` x ``model``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import jax
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules

_MAX_DEVICES = 1_000_000
_ROWS = "mesh axes that a logical axis is split over: '', or some of data, fsdp, model joined by +"
FIELDS = {
    # -1: all devices that the others leave.
    "data": field(
        -1, "parts of a batch, a copy of the weights each", at_least=1, at_most=_MAX_DEVICES, also=(-1,), binds=False
    ),
    "fsdp": field(
        1,
        "parts of a batch that share a copy of the weights",
        at_least=1,
        at_most=_MAX_DEVICES,
        also=(-1,),
        binds=False,
    ),
    "model": field(
        1, "devices that share the features of a layer", at_least=1, at_most=_MAX_DEVICES, also=(-1,), binds=False
    ),
    "rules": {name: field(axes, _ROWS, reads=rules.check_axes, binds=False) for name, axes in rules.RULES},
}


def default_config() -> ConfigDict:
    """Fields of ``config.mesh``."""
    return ConfigDict(defaults(FIELDS))


def sizes_of(config: ConfigDict | Mapping, count: int) -> dict[str, int]:
    """Mesh axis -> size, for `count` devices; -1 is filled in.

    Raises:
        UserError: when the sizes do not make up the number of devices; it says which would.
    """
    sizes = {axis: int(config[axis]) for axis in rules.MESH_AXES}
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    for axis, size in sizes.items():
        if size != -1 and size < 1:
            raise UserError(f"mesh.{axis} is {size}; expected -1 (the rest) or one of {divisors}")
        if size != -1 and count % size:
            raise UserError(f"mesh.{axis}={size} does not divide the {count} device(s); sizes that do: {divisors}")
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise UserError(f"{' and '.join(f'mesh.{axis}' for axis in free)} are -1; give all but one, of {divisors}")
    given = math.prod(size for size in sizes.values() if size != -1)
    if count % given or (not free and given != count):
        fits = ["x".join(map(str, s)) for s in itertools.product(divisors, repeat=3) if math.prod(s) == count]
        asked = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise UserError(
            f"mesh {asked} does not make up the {count} device(s); data x fsdp x model that do: {', '.join(fits[:12])}"
        )
    if free:
        sizes[free[0]] = count // given
    return sizes


def make_mesh(config: ConfigDict, devices: list | None = None) -> Mesh:
    """A mesh with axes ("data", "fsdp", "model") over all devices, all processes included.

    Args:
        config: `data`, `fsdp` and `model`, sizes; one of them may be -1, "the rest".
        devices: defaults to `jax.devices()`.

    Raises:
        UserError: when the sizes do not make up the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = sizes_of(config, len(devices))
    # Auto, not the Explicit default of make_mesh: under Explicit axes a sharded nn.Embed raises ShardingTypeError.
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), devices=devices)


def rules_of(config: ConfigDict) -> tuple[tuple[str, str], ...]:
    """The sharding table of ``config.mesh``: the defaults with the config's rows in their place."""
    return rules.with_overrides(dict(config.rules))
