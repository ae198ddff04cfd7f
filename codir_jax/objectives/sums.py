"""Losses and metrics as (sum, count), which add up over steps, parts of a batch and devices."""

import jax
import jax.numpy as jnp

SumAndCount = tuple[jax.Array, jax.Array]
Metrics = dict[str, SumAndCount]


def masked_sum(values: jax.Array, mask: jax.Array) -> SumAndCount:
    """(sum of the masked values, count), both float32 scalars: the form in which metrics add up."""
    mask = mask.astype(jnp.float32)
    return jnp.sum(jnp.where(mask > 0, values.astype(jnp.float32), 0.0) * mask), jnp.sum(mask)


def mean(sum_and_count: SumAndCount) -> jax.Array:
    """Mean of a (sum, count) pair; 0 where nothing was counted."""
    total, count = sum_and_count
    return total / jnp.maximum(count, 1.0)
