"""Products in the dtype of the computation, with gradients of weights in a dtype of their own.

A float32 product is the plain one. In a bfloat16 model the weights are rounded for the product alone: differentiating
the rounding would give their gradients, and the sums of these over positions and devices, to bfloat16, which keeps 8
bits and adds nothing to a sum that is 256 times as large.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.compression import factors
from codir_jax.linalg.kernel_gradient import kernel_gradient
from codir_jax.linalg.row_sums import over_rows
from codir_jax.models import weights

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


def product(x: jax.Array, kernel: Any, axes: int = 1) -> jax.Array:
    """x [..., *in] times kernel float32 [*in, *out], computed in the dtype of x: [..., *out].

    A kernel [in, out] may be given as its factors.

    Its rows are one axis: the gradient of a kernel that sums over two axes is computed by XLA on CPUs from a transposed
    copy, 1.5 times slower. Of a bfloat16 product with several axes XLA for CPUs makes that gradient in no other way.

    Args:
        axes: how many `in` are.
    """
    if factors.are_in(kernel):
        return factors.apply(x, kernel, product)
    shape = x.shape[: x.ndim - axes]
    if x.dtype == kernel.dtype or kernel.ndim == 2:
        x = x.reshape(-1, *x.shape[x.ndim - axes :])
    y = _dot(x, kernel, axes) if x.dtype == kernel.dtype else _rounded(x, kernel, axes, _gradient_dtype.get())
    return y.reshape(*shape, *kernel.shape[axes:])


def _dot(x, kernel, axes):
    inputs = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    return jax.lax.dot_general(x, kernel, (inputs, ((), ())))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _rounded(x, kernel, axes, gradient_dtype):
    return _rounded_forward(x, kernel, axes, gradient_dtype)[0]


def _rounded_forward(x, kernel, axes, gradient_dtype):
    del gradient_dtype
    rounded = kernel.astype(x.dtype)
    return _dot(x, rounded, axes), (x, rounded)


def _rounded_backward(axes, gradient_dtype, kept, gradient):
    x, rounded = kept
    num_rows = x.ndim - axes
    outputs = tuple(range(num_rows, gradient.ndim)), tuple(range(axes, rounded.ndim))
    of_x = jax.lax.dot_general(gradient, rounded, (outputs, ((), ())))
    return of_x, kernel_gradient(x, gradient, num_rows, gradient_dtype).astype(jnp.float32)


_rounded.defvjp(_rounded_forward, _rounded_backward)


@jax.custom_vjp
def gradients_together(params: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """(params, x) of a layer as they are; no gradient of theirs is used before all of them are made.

    A gradient of weights has no use before the optimizer. XLA for several GPUs made them all after the backward pass,
    and held until then what they are made of: computing the layers again saved next to nothing.
    """
    return params, x


gradients_together.defvjp(
    lambda params, x: ((params, x), None), lambda _, gradients: jax.lax.optimization_barrier(gradients)
)


def scores(query: jax.Array, key: jax.Array) -> jax.Array:
    """query [batch, heads, q, d] times key [batch, heads, k, d]: float32 [batch, heads, q, k], of float32 sums."""
    return _scores(query, key) if query.dtype == jnp.float32 else _exact_scores(query, key)


def _scores(query, key, dtype=None):
    return jnp.einsum("bnqd,bnkd->bnqk", query, key, preferred_element_type=dtype)


@jax.custom_vjp
def _exact_scores(query, key):
    return _scores(query, key, jnp.float32)


def _scores_backward(kept, gradient):
    query, key = kept
    # Products in the dtype of the computation; differentiating the float32 sums would make them float32 ones.
    gradient = gradient.astype(query.dtype)
    return jnp.einsum("bnqk,bnkd->bnqd", gradient, key), jnp.einsum("bnqk,bnqd->bnkd", gradient, query)


_exact_scores.defvjp(lambda query, key: (_exact_scores(query, key), (query, key)), _scores_backward)


@jax.custom_vjp
def plus_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., *out] + bias float32 [*out], summed in float32, in the dtype of y."""
    return (y + bias).astype(y.dtype)


def _plus_bias_backward(bias, gradient):
    rows = gradient.reshape(*gradient.shape[: gradient.ndim - bias.ndim], bias.size)
    return gradient, over_rows(rows).reshape(bias.shape)


plus_bias.defvjp(lambda y, bias: (plus_bias(y, bias), bias), _plus_bias_backward)


class Dense(nn.Module):
    """x @ kernel + bias, kernel float32 [in, features], bias float32 [features]; the sum with the bias is float32.

    Without `use_bias` there is none.

    Features may be several axes of x or of the result, such as heads and head size. The weights stay as they are: it is
    they who are given these axes, as an array of all tokens may have to be copied for it (on a TPU, where heads of 64
    features do not fill a tile).

    Attributes:
        features: of the result.
        kernel_init, bias_init: initializers.
        dtype: of the product and of the result.
        in_axes: last axes of x that are `in`.
        out_shape: of the features in the result; (): [features].
    """

    features: int
    kernel_init: Any
    bias_init: Any
    dtype: Any = jnp.float32
    in_axes: int = 1
    out_shape: tuple[int, ...] = ()
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        in_shape = x.shape[x.ndim - self.in_axes :]
        kernel = weights.declared(self, "kernel", self.kernel_init, (math.prod(in_shape), self.features))
        out_shape = self.out_shape or (self.features,)
        x = x.astype(self.dtype)
        if factors.are_in(kernel):
            rows = x.shape[: x.ndim - self.in_axes]
            y = product(x.reshape(*rows, -1), kernel).reshape(*rows, *out_shape)
        else:
            y = product(x, kernel.reshape(*in_shape, *out_shape), self.in_axes)
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return plus_bias(y, bias.reshape(out_shape))
