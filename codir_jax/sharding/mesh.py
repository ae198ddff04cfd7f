"""The device mesh: a grid of ``data`` x ``model``."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from codir_jax.sharding import rules


def default_config() -> ConfigDict:
    """Fields of ``config.mesh``."""
    config = ConfigDict()
    config.data = -1  # devices that share a batch; -1: all that `model` leaves
    config.model = 1  # devices that share one copy of the weights
    # Where each logical axis goes: "" (whole on every device), "data" or "model". See sharding/rules.py.
    config.rules = ConfigDict({name: axis or "" for name, axis in rules.RULES})
    return config


def make_mesh(config: ConfigDict, devices: list | None = None) -> Mesh:
    """A mesh with axes ("data", "model") over all devices, all processes included.

    Args:
        config: `data` and `model`, sizes; one of them may be -1, "the rest".
        devices: defaults to `jax.devices()`.

    Raises:
        ValueError: when the sizes do not make up the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    sizes = {axis: int(config[axis]) for axis in rules.MESH_AXES}
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    for axis, size in sizes.items():
        if size != -1 and size < 1:
            raise ValueError(f"mesh.{axis} is {size}; expected -1 (the rest) or one of {divisors}")
        if size != -1 and count % size:
            raise ValueError(f"mesh.{axis}={size} does not divide the {count} device(s); sizes that do: {divisors}")
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise ValueError(f"mesh.{free[0]} and mesh.{free[1]} are both -1; give one of them, of {divisors}")
    if free:
        (other,) = (axis for axis in sizes if axis != free[0])
        sizes[free[0]] = count // sizes[other]
    if sizes[rules.DATA] * sizes[rules.MODEL] != count:
        fits = ", ".join(f"{n}x{count // n}" for n in divisors)
        raise ValueError(
            f"mesh data={sizes[rules.DATA]} x model={sizes[rules.MODEL]} uses "
            f"{sizes[rules.DATA] * sizes[rules.MODEL]} of {count} devices; data x model that fit: {fits}"
        )
    # Auto, not the Explicit default of make_mesh: under Explicit axes a sharded nn.Embed raises ShardingTypeError.
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), devices=devices)


def rules_of(config: ConfigDict) -> tuple[tuple[str, str | None], ...]:
    """The sharding table of ``config.mesh``: the defaults with the config's rows in their place."""
    return rules.with_overrides(dict(config.rules))
