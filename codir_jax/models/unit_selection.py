"""A feed-forward block with fewer inner units: those that move its output least are left out.

A unit u of a layer weighs |w_in[:, u]| |w_out[u, :]|, and |w_gate[:, u]| times that where it has a gate, whose kernel
lies beside w_in in one array [in, 2 units]. Every layer loses equally many, so that the result is an ordinary model of
a smaller `intermediate_size`: structured pruning, which makes dense hardware faster.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from codir_jax.processes.user_error import UserError


def shrink(config: Any, params: Mapping[str, Any] | None, *, share: float) -> tuple[Any, dict[str, Any] | None]:
    """(config, params) of the model without that share of inner units, at least one of which stays.

    Args:
        config: of a transformer. params: its weights, nested dict of arrays; None: only the sizes change.
        share: from 0 to below 1.

    Raises:
        UserError: another share, one that leaves out no unit, or weights that are kept as factors.
    """
    num_units = config.intermediate_size
    num_kept = num_units - round(share * num_units)
    if not 1 <= num_kept < num_units:
        raise UserError(f"a share of {share:g} of {num_units} inner units leaves {num_kept}")
    smaller = dataclasses.replace(config, intermediate_size=num_kept)
    if params is None:
        return smaller, None
    encoder = dict(params["encoder"])
    for name in (name for name in encoder if name.startswith("layer_")):
        first, second = encoder[name]["mlp_in"], encoder[name]["mlp_out"]
        if isinstance(first["kernel"], Mapping) or isinstance(second["kernel"], Mapping):
            raise UserError(f"{name} keeps its feed-forward weights as factors; leave out units before that")
        kept = kept_units(first["kernel"], second["kernel"], num_kept)
        encoder[name] = {
            **encoder[name],
            "mlp_in": {part: _columns(weight, num_units, kept) for part, weight in first.items()},
            "mlp_out": {**second, "kernel": second["kernel"][kept]},
        }
    return smaller, {**params, "encoder": encoder}


def _columns(weight: np.ndarray, num_units: int, kept: np.ndarray) -> np.ndarray:
    """Of [..., parts * units] the kept units of every part."""
    parts = weight.reshape(*weight.shape[:-1], -1, num_units)[..., kept]
    return parts.reshape(*weight.shape[:-1], -1)


def kept_units(first: np.ndarray, second: np.ndarray, num_kept: int) -> np.ndarray:
    """Ascending numbers of the units between two kernels that weigh most.

    Args:
        first: [in, parts * units], where parts, such as a gate, are multiplied. second: [units, out].
    """
    of_parts = np.linalg.norm(first.reshape(len(first), -1, len(second)), axis=0)
    return strongest(of_parts.prod(axis=0) * np.linalg.norm(second, axis=1), num_kept)


def strongest(weights: np.ndarray, num_kept: int) -> np.ndarray:
    """Ascending places of the largest of these numbers; of equal ones the first."""
    return np.sort(np.argsort(-weights, kind="stable")[:num_kept])
