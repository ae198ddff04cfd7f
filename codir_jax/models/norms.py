"""LayerNorm (Ba et al., 2016) over the last axis, in float32."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.linalg.row_sums import over_rows


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis of x [..., n]: float32 [..., n].

    What is kept for the gradient is x itself, in its own dtype, with a mean and a deviation for each row.

    Attributes:
        epsilon: that of the checkpoint.
        scale_init, bias_init: initializers of float32 [n].
        use_bias: whether there is one.
    """

    epsilon: float
    scale_init: Any
    bias_init: Any
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", self.scale_init, x.shape[-1:], jnp.float32)
        bias = self.param("bias", self.bias_init, x.shape[-1:], jnp.float32) if self.use_bias else None
        return _normalised(x, scale, bias, self.epsilon)


def _moments(x, epsilon):
    """(x less its mean, 1 / standard deviation), float32 [..., n] and [..., 1]."""
    x = x.astype(jnp.float32)
    # E[x^2] - E[x]^2 would cancel where the mean is large.
    centred = x - x.mean(-1, keepdims=True)
    return centred, jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(x, scale, bias, epsilon):
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x, scale, bias, epsilon):
    centred, inverse = _moments(x, epsilon)
    y = centred * (inverse * scale)
    return y if bias is None else y + bias, (x, scale, bias)


def _backward(epsilon, kept, gradient):
    x, scale, bias = kept
    centred, inverse = _moments(x, epsilon)
    unit = centred * inverse
    of_unit = gradient * scale
    along = of_unit.mean(-1, keepdims=True) + unit * (of_unit * unit).mean(-1, keepdims=True)
    # Made here, once. XLA for CPUs would make it again, back to the last layer, for each product that it goes into.
    of_x = jax.lax.optimization_barrier(((of_unit - along) * inverse).astype(x.dtype))
    of_bias = None if bias is None else over_rows(gradient)
    return of_x, over_rows(gradient * unit), of_bias


_normalised.defvjp(_forward, _backward)
