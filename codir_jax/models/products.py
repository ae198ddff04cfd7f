"""Products in the dtype of the computation, with gradients of weights in a dtype of their own.

A float32 product is the plain one. In a bfloat16 model the weights are rounded for the product alone: differentiating
the rounding would give their gradients, and the sums of these over positions and devices, to bfloat16, which keeps 8
bits and adds nothing to a sum that is 256 times as large.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

GRADIENT_DTYPES = ("float32", "bfloat16")

_gradient_dtype: contextvars.ContextVar[str] = contextvars.ContextVar("gradient_dtype", default="float32")


@contextlib.contextmanager
def kernel_gradients(dtype: str) -> Iterator[None]:
    """While active, programs that are traced give gradients of kernels of bfloat16 products in `dtype`.

    The sum over devices has that dtype too: it follows the product that makes the gradient. Outside it is float32.

    Args:
        dtype: of GRADIENT_DTYPES.
    """
    token = _gradient_dtype.set(dtype)
    try:
        yield
    finally:
        _gradient_dtype.reset(token)


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., in] times kernel float32 [in, out], computed in the dtype of x: [..., out].

    As a product of two matrices: the gradient of a kernel that sums over two axes is computed by XLA on CPUs from a
    transposed copy, 1.5 times slower.
    """
    rows = x.reshape(-1, x.shape[-1])
    y = _dot(rows, kernel) if x.dtype == kernel.dtype else _rounded(rows, kernel, _gradient_dtype.get())
    return y.reshape(*x.shape[:-1], -1)


def _dot(x, kernel):
    return jax.lax.dot_general(x, kernel, (((1,), (0,)), ((), ())))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded(x, kernel, gradient_dtype):
    return _rounded_forward(x, kernel, gradient_dtype)[0]


def _rounded_forward(x, kernel, gradient_dtype):
    del gradient_dtype
    rounded = kernel.astype(x.dtype)
    return _dot(x, rounded), (x, rounded)


def _rounded_backward(gradient_dtype, kept, gradient):
    x, rounded = kept
    of_x = jax.lax.dot_general(gradient, rounded, (((1,), (1,)), ((), ())))
    of_kernel = jax.lax.dot_general(x, gradient, (((0,), (0,)), ((), ())), preferred_element_type=gradient_dtype)
    return of_x, of_kernel.astype(jnp.float32)


_rounded.defvjp(_rounded_forward, _rounded_backward)


def scores(query: jax.Array, key: jax.Array) -> jax.Array:
    """query [batch, q, heads, d] times key [batch, k, heads, d]: float32 [batch, heads, q, k], of float32 sums."""
    return _scores(query, key) if query.dtype == jnp.float32 else _exact_scores(query, key)


def _scores(query, key, dtype=None):
    return jnp.einsum("bqnd,bknd->bnqk", query, key, preferred_element_type=dtype)


@jax.custom_vjp
def _exact_scores(query, key):
    return _scores(query, key, jnp.float32)


def _scores_backward(kept, gradient):
    query, key = kept
    # Products in the dtype of the computation; differentiating the float32 sums would make them float32 ones.
    gradient = gradient.astype(query.dtype)
    return jnp.einsum("bnqk,bknd->bqnd", gradient, key), jnp.einsum("bnqk,bqnd->bknd", gradient, query)


_exact_scores.defvjp(lambda query, key: (_exact_scores(query, key), (query, key)), _scores_backward)


class Dense(nn.Module):
    """x @ kernel + bias, kernel float32 [in, features], bias float32 [features]; the sum with the bias is float32.

    Attributes:
        features: of the result.
        kernel_init, bias_init: initializers.
        dtype: of the product and of the result.
    """

    features: int
    kernel_init: Any
    bias_init: Any
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        y = product(x.astype(self.dtype), kernel)
        return (y + jnp.reshape(bias, (1,) * (y.ndim - 1) + (-1,))).astype(self.dtype)
