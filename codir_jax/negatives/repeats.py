"""Which ids occur twice, and which occur in another list: by sorting, in memory of the size of the lists.

Neither all pairs nor a table of all rows: both would lie whole on every device, one of [batch, batch], the other with a
place for each train row.
"""

import jax
import jax.numpy as jnp


def is_repeat(values: jax.Array) -> jax.Array:
    """True where a value occurs earlier in its row: O(K log K) each.

    Args:
        values: int32 [..., K], K < 2^30.

    Returns:
        bool [..., K].
    """
    order = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    ordered, order_of = jax.lax.sort((values, order), num_keys=1, is_stable=True)
    repeated = (ordered == jnp.roll(ordered, 1, axis=-1)) & (order > 0)
    # Back in place by a second sort, of place and answer in one integer: as fast as a scatter on a CPU, and a TPU sorts
    # the indices of a scatter all the same.
    return jnp.sort(2 * order_of + repeated, axis=-1, stable=False) % 2 == 1


def is_among(values: jax.Array, others: jax.Array) -> jax.Array:
    """True where a value is one of `others`: a sort of them and log2(Q) look-ups a value.

    Args:
        values: int32 of any shape.
        others: int32 [Q], Q >= 1, in any order.

    Returns:
        bool, the shape of `values`.
    """
    ordered = jnp.sort(others)
    return jnp.take(ordered, jnp.searchsorted(ordered, values), mode="clip") == values
