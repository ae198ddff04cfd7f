"""Which weights are left out: those of the smallest magnitude, at once or little by little.

Of n weights the k = round(s n) with the smallest |w| are 0, of equal ones the first. The gradual sparsity is that of
Zhu and Gupta, "To prune, or not to prune", 2017: s_t = s_f (1 - (1 - p)^3), p the finished share of the pruning.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.processes.user_error import UserError


def mask(w: np.ndarray, sparsity: float) -> np.ndarray:
    """bool [shape of w], True for the weights that are kept; sparsity in [0, 1) is the share of those that are not."""
    check_sparsity(sparsity)
    kept = np.ones(w.size, bool)
    kept[np.argsort(np.abs(w), axis=None, kind="stable")[: round(sparsity * w.size)]] = False
    return kept.reshape(w.shape)


def masks_together(weights: Mapping[str, np.ndarray], sparsity: float) -> dict[str, np.ndarray]:
    """Name -> mask, where all weights are compared with each other, in the order of the mapping."""
    joined = mask(np.concatenate([w.ravel() for w in weights.values()]), sparsity)
    ends = np.cumsum([w.size for w in weights.values()])
    parts = np.split(joined, ends[:-1])
    return {name: part.reshape(w.shape) for (name, w), part in zip(weights.items(), parts, strict=True)}


def mask_in_step(w: jax.Array, sparsity: jax.Array) -> jax.Array:
    """As `mask`, inside a jitted program, where the sparsity is a number of the step.

    Nothing is sorted: the largest magnitude that is left out, and of those equal to it the first that is kept, are
    found by halving, each time with a count over all weights. That is about ten times as fast on a CPU, and devices
    that share the weights exchange counts alone.
    """
    num_pruned = jnp.round(sparsity * w.size).astype(jnp.int32)
    # The bits of floats that are not negative are in their order.
    magnitudes = jax.lax.bitcast_convert_type(jnp.abs(w).astype(jnp.float32), jnp.int32)
    places = jnp.arange(w.size, dtype=jnp.int32).reshape(w.shape)
    largest = _first(lambda n: _count(magnitudes <= n) >= num_pruned, int(jnp.iinfo(jnp.int32).max))
    smaller, is_equal = magnitudes < largest, magnitudes == largest
    missing = num_pruned - _count(smaller)
    end = _first(lambda n: _count(is_equal & (places < n)) >= missing, w.size)
    return ~(smaller | (is_equal & (places < end)))


def _first(holds, highest: int) -> jax.Array:
    """The first of 0 .. highest at which `holds`, which then holds for all that follow, the highest among them."""

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        found = holds(middle)
        return jnp.where(found, low, jnp.minimum(middle + 1, high)), jnp.where(found, middle, high)

    return jax.lax.fori_loop(0, highest.bit_length(), halve, (jnp.int32(0), jnp.int32(highest)))[1]


def _count(is_one: jax.Array) -> jax.Array:
    return jnp.sum(is_one, dtype=jnp.int32)


def sparsity_at(progress, final: float, begin: float, end: float):
    """s_t where `progress` is the finished share of the run and pruning lasts from `begin` to `end` of it."""
    p = jnp.where(progress >= end, 1.0, jnp.clip((progress - begin) / max(end - begin, 1e-9), 0.0, 1.0))
    return final * (1.0 - (1.0 - p) ** 3)


def check_sparsity(sparsity: float) -> None:
    """Refuses a share that is none, or that leaves nothing."""
    if not (math.isfinite(sparsity) and 0 <= sparsity < 1):
        raise UserError(f"a sparsity is a share from 0 to below 1 (1 would leave no weight), got {sparsity}")
