"""GELU of the error function (Hendrycks and Gimpel, 2016), which keeps nothing for its gradient but what it is of."""

import math

import jax
import jax.numpy as jnp


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x Phi(x), computed in float32, in the dtype of x; Phi is the normal distribution function.

    XLA would keep erf in float32 for the gradient, which takes longer to write and to read than to compute again.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1.0 + jax.lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


def _backward(x, gradient):
    y = x.astype(jnp.float32)
    # erf of -y: of y it would be the forward pass' own, and be kept.
    distribution = 0.5 - 0.5 * jax.lax.erf(y * -math.sqrt(0.5))
    density = jnp.exp(-0.5 * jnp.square(y)) * (1.0 / math.sqrt(2.0 * math.pi))
    return ((gradient.astype(jnp.float32) * (distribution + y * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _backward)
