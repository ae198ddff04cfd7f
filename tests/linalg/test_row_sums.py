"""Sums over rows, which a CPU multiplies and other devices add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.linalg import row_sums


@pytest.mark.parametrize("shape", [(7,), (50, 7), (5, 6, 7)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_both_ways_are_the_sum_in_float32(shape, dtype):
    x = jax.random.normal(jax.random.key(0), shape).astype(dtype)
    wanted = np.asarray(x, np.float64).reshape(-1, 7).sum(0)
    for way in (row_sums.over_rows, row_sums._as_product, row_sums._as_sum):
        if x.ndim > 1 or way is row_sums.over_rows:
            got = way(x)
            assert got.dtype == jnp.float32
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_bfloat16_rows_do_not_stall():
    """A sum kept in bfloat16 would end at 256."""
    np.testing.assert_array_equal(row_sums.over_rows(jnp.ones((64, 1024, 2), jnp.bfloat16)), [65536.0, 65536.0])


def test_only_a_cpu_multiplies():
    text = jax.jit(row_sums.over_rows).trace(jnp.ones((4, 8, 2))).lower(lowering_platforms=("tpu",)).as_text()
    assert "dot_general" not in text and "reduce" in text
