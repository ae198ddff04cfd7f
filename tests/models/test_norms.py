"""LayerNorm: Flax's values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codir_jax.models.norms import LayerNorm

INITS = {"scale_init": nn.initializers.normal(1.0), "bias_init": nn.initializers.normal(1.0)}


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_that_of_flax(dtype, use_bias):
    ours = LayerNorm(epsilon=1e-12, use_bias=use_bias, **INITS)
    theirs = nn.LayerNorm(1e-12, jnp.float32, use_bias=use_bias, use_fast_variance=False)
    # Rows with a mean that is large beside their deviation.
    x = (3.0 + jax.random.normal(jax.random.key(0), (6, 5, 32))).astype(dtype)
    params = ours.init(jax.random.key(1), x)
    weights = jax.random.normal(jax.random.key(2), x.shape)

    def value_and_gradients(module):
        loss = lambda params, x: jnp.sum(weights * module.apply(params, x))  # noqa: E731
        return module.apply(params, x), jax.grad(loss, (0, 1))(params, x)

    (y, gradients), (flax_y, flax_gradients) = value_and_gradients(ours), value_and_gradients(theirs)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, flax_y, atol=1e-6)
    for got, wanted in zip(*map(jax.tree.leaves, (gradients, flax_gradients)), strict=True):
        assert got.dtype == wanted.dtype
        atol = 0.02 if got.dtype == jnp.bfloat16 else 1e-5
        np.testing.assert_allclose(got.astype(jnp.float32), wanted.astype(jnp.float32), atol=atol)


def test_a_row_of_one_value_has_finite_gradients():
    module = LayerNorm(epsilon=1e-12, **INITS)
    x = jnp.ones((2, 8))
    params = module.init(jax.random.key(0), x)
    gradients = jax.grad(lambda params, x: module.apply(params, x).sum(), (0, 1))(params, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
