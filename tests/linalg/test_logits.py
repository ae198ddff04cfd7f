"""Logits of a vocabulary: float32 sums, and gradients of each factor in the dtype of the products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.linalg.logits import logits

SHAPES = {"rows": (24, 8), "batch and length": (4, 6, 8)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients_are_those_of_float64(name, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.random.normal(keys[0], SHAPES[name], dtype)
    table = jax.random.normal(keys[1], (50, 8))
    weights = jax.random.normal(keys[2], (*SHAPES[name][:-1], 50))
    got, back = jax.vjp(jax.jit(logits), states, table)
    of_states, of_table = back(weights)
    assert (got.dtype, of_states.dtype, of_table.dtype) == (jnp.float32, states.dtype, jnp.float32)

    def exact(x):
        return np.asarray(x.astype(dtype), np.float64)

    flat, flat_weights = exact(states).reshape(-1, 8), exact(weights).reshape(-1, 50)
    np.testing.assert_allclose(got.reshape(-1, 50), flat @ exact(table).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_table, flat_weights.T @ flat, rtol=1e-5, atol=2e-5)
    rounding = 1e-5 if dtype == "float32" else 2**-8
    np.testing.assert_allclose(
        np.asarray(of_states, np.float64).reshape(-1, 8), flat_weights @ exact(table), rtol=rounding, atol=1e-5
    )


def test_large_logits_are_told_apart_though_their_factors_are_bfloat16():
    states, table = jnp.full((1, 4), 4.0, jnp.bfloat16), jnp.asarray([[1.0] * 4, [1.0, 1.0, 1.0, 1.0078125]])
    np.testing.assert_array_equal(logits(states, table), [[16.0, 16.03125]])
