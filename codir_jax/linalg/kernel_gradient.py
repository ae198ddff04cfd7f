"""The gradient of a bfloat16 product's kernel, in the form that the compiler of each device multiplies fastest."""

import math

import jax
from jax.experimental.layout import Layout, with_layout_constraint

_BY_ROWS = Layout(major_to_minor=(0, 1))


def kernel_gradient(x: jax.Array, gradient: jax.Array, num_rows: int, dtype: str) -> jax.Array:
    """x bfloat16 [*rows, *in] transposed times gradient bfloat16 [*rows, *out]: `dtype` [*in, *out].

    Args:
        num_rows: how many axes `rows` are.
    """

    def as_it_is(x, gradient):
        rows = tuple(range(num_rows))
        return jax.lax.dot_general(x, gradient, ((rows, rows), ((), ())), preferred_element_type=dtype)

    def by_rows(x, gradient):
        """On CPUs. From jax 0.12 on XLA multiplies matrices of bfloat16 as such (AMX) where all lie row by row, and any
        others in float32, 4 to 6 times slower: so x is turned in memory, and no array may be laid out otherwise."""
        flat = [a.reshape(math.prod(a.shape[:num_rows]), -1) for a in (x, gradient)]
        turned, gradient_rows = (with_layout_constraint(a, _BY_ROWS) for a in (flat[0].T, flat[1]))
        made = jax.lax.dot_general(turned, gradient_rows, (((1,), (0,)), ((), ())), preferred_element_type=dtype)
        return with_layout_constraint(made, _BY_ROWS).reshape(*x.shape[num_rows:], *gradient.shape[num_rows:])

    return jax.lax.platform_dependent(x, gradient, cpu=by_rows, default=as_it_is)
