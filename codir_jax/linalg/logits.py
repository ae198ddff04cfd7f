"""Scores of all words of a vocabulary: a product whose result is never rounded, and its gradients.

Logits are float32, as bfloat16 tells those near 16 apart by 0.125 only. Differentiating such a product multiplies its
float32 gradient with matrices that are then made float32 too; so here the gradient of bfloat16 states is rounded to
their dtype first, as that of every other product is.
"""

import jax
import jax.numpy as jnp

from codir_jax.linalg.kernel_gradient import kernel_gradient


def logits(states: jax.Array, table: jax.Array) -> jax.Array:
    """float32 [..., V].

    Args:
        states: float [..., H]; their dtype is that of the products.
        table: float32 [V, H].
    """
    rows = states.reshape(-1, states.shape[-1])
    found = scores(rows, table) if states.dtype == table.dtype else _of_rounded(rows, table)
    return found.reshape(*states.shape[:-1], table.shape[0])


def scores(states: jax.Array, table: jax.Array) -> jax.Array:
    """The product alone, float32 [..., V] of states [..., H] and table [V, H] of one dtype."""
    return jnp.tensordot(states, table, axes=(-1, -1), preferred_element_type=jnp.float32)


def states_gradient(gradient: jax.Array, table: jax.Array) -> jax.Array:
    """The gradient of states, [..., H], of that of logits [..., V], both in the dtype of the products.

    Args:
        table: [V, H] in that dtype.
    """
    return jnp.tensordot(gradient, table, axes=1, preferred_element_type=gradient.dtype)


def table_gradient(gradient: jax.Array, states: jax.Array) -> jax.Array:
    """The gradient of the table, float32 [V, H], summed in float32.

    Args:
        gradient: of logits, [..., V]. states: [..., H], of the same dtype.
    """
    if states.dtype == jnp.float32:
        rows = tuple(range(states.ndim - 1))
        return jnp.tensordot(gradient, states, axes=(rows, rows))
    return kernel_gradient(gradient, states, states.ndim - 1, "float32")


@jax.custom_vjp
def _of_rounded(rows, table):
    return scores(rows, table.astype(rows.dtype))


def _forward(rows, table):
    rounded = table.astype(rows.dtype)
    return scores(rows, rounded), (rows, rounded)


def _backward(kept, gradient):
    rows, table = kept
    gradient = gradient.astype(rows.dtype)
    return states_gradient(gradient, table), table_gradient(gradient, rows)


_of_rounded.defvjp(_forward, _backward)
