"""Gradients of the kernels of bfloat16 products, in the two forms that compilers are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.linalg.kernel_gradient import kernel_gradient
from codir_jax.models.products import product

SHAPES = {
    "a matrix": ((16, 12), (12, 10), 1),
    "heads out": ((4, 6, 12), (12, 2, 5), 1),
    "heads in": ((4, 6, 2, 5), (2, 5, 12), 2),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SHAPES)
def test_it_is_the_product_over_all_rows(name, dtype):
    x_shape, kernel_shape, axes = SHAPES[name]
    rows = x_shape[: len(x_shape) - axes]
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], x_shape, jnp.bfloat16)
    gradient = jax.random.normal(keys[1], (*rows, *kernel_shape[axes:]), jnp.bfloat16)
    got = jax.jit(lambda x, g: kernel_gradient(x, g, len(rows), dtype))(x, gradient)
    flat = [np.asarray(a, np.float64).reshape(np.prod(rows), -1) for a in (x, gradient)]
    assert got.dtype == dtype and got.shape == kernel_shape
    np.testing.assert_allclose(
        np.asarray(got, np.float64).reshape(flat[0].shape[1], -1),
        flat[0].T @ flat[1],
        rtol=1e-5 if dtype == "float32" else 1e-2,
        atol=1e-5 if dtype == "float32" else 1e-2,
    )


@pytest.mark.parametrize("turn", [jnp.asarray, jnp.transpose], ids=["as it is", "transposed"])
def test_a_kernel_that_is_used_transposed_has_a_gradient_too(turn):
    """XLA for CPUs cannot run a bfloat16 product with a float32 result in every layout."""
    x, kernel = jnp.ones((64, 48), jnp.bfloat16), jax.random.normal(jax.random.key(0), (48, 48))
    loss = lambda kernel: jnp.sum(product(x, turn(kernel)).astype(jnp.float32))  # noqa: E731
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(kernel), np.full((48, 48), 64.0))


def test_only_a_cpu_turns_the_rows_in_memory():
    traced = jax.jit(lambda x, g: kernel_gradient(x, g, 1, "float32")).trace(*(jnp.ones((8, 4), jnp.bfloat16),) * 2)
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert {name: "LayoutConstraint" in text for name, text in texts.items()} == {
        "cpu": True,
        "cuda": False,
        "tpu": False,
    }
