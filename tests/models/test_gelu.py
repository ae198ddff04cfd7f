"""GELU: transformers' values, the derivative of the formula, and what is kept for it."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from codir_jax.models.gelu import gelu


def test_values_and_slopes_are_those_of_the_formula():
    x = np.linspace(-12.0, 12.0, 1001)
    slopes = jax.vmap(jax.grad(gelu))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(gelu(jnp.asarray(x, jnp.float32)), x * norm.cdf(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes, norm.cdf(x) + x * norm.pdf(x), rtol=1e-5, atol=1e-6)


def test_bfloat16_is_rounded_once():
    x = jax.random.normal(jax.random.key(0), (1000,), jnp.bfloat16)
    slope = jax.vmap(jax.grad(gelu))
    assert gelu(x).dtype == slope(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(slope(x), slope(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_only_its_input_is_kept():
    x = jax.random.normal(jax.random.key(0), (8, 4), jnp.bfloat16)
    (kept,) = jax.tree.leaves(jax.vjp(gelu, x)[1])
    np.testing.assert_array_equal(kept, x)


def test_erf_is_computed_again_and_not_merged_with_that_of_the_forward_pass():
    shape = jax.ShapeDtypeStruct((64, 4096), jnp.float32)
    both = jax.jit(lambda x: jax.value_and_grad(lambda x: jnp.sum(jnp.sin(gelu(x))))(x))
    assert both.lower(shape).compile().as_text().count(" erf(") >= 2
