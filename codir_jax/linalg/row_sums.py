"""Sums over all axes but the last: gradients of what is added to, or multiplied with, every row."""

import jax
import jax.numpy as jnp


def over_rows(x: jax.Array) -> jax.Array:
    """x float [..., n], summed in float32 over all axes but the last: float32 [n].

    On CPUs a product with ones: XLA sums over two axes element by element, 4 to 8 times slower than it multiplies.
    """
    if x.ndim == 1:
        return x.astype(jnp.float32)
    return jax.lax.platform_dependent(x, cpu=_as_product, default=_as_sum)


def _as_sum(x):
    return x.astype(jnp.float32).sum(tuple(range(x.ndim - 1)))


def _as_product(x):
    rows = tuple(range(x.ndim - 1))
    ones = jnp.ones(x.shape[:-1], x.dtype)
    return jax.lax.dot_general(ones, x, ((rows, rows), ((), ())), preferred_element_type=jnp.float32)
