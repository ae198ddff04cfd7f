"""bfloat16 models: how far their gradients are from those of float32, and the dtype of weights' gradients."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models import bert, products
from codir_jax.models.dropout import dropout
from codir_jax.models.heads import build_model, init_params
from codir_jax.models.layers import ACTIVATIONS, activate
from codir_jax.sharding.rules import unbox

TINY = dataclasses.replace(
    bert.BASE, vocab_size=50, hidden_size=24, num_layers=1, num_heads=2, intermediate_size=32, max_positions=64
)
FREQUENT = 7


@functools.cache
def _gradients(dtype):
    """Of a batch of 512 texts of 64 tokens, every second of which is one word."""
    rng = np.random.default_rng(0)
    ids = np.where(rng.random((512, 64)) < 0.5, FREQUENT, rng.integers(8, 50, (512, 64))).astype(np.int32)
    aim = rng.normal(1, 1, 24).astype(np.float32)
    model = build_model(TINY, "masked_lm", dtype=dtype)

    def loss(params):
        output = model.apply(
            {"params": params},
            *(ids, np.ones_like(ids), np.zeros_like(ids)),
            positions=np.zeros((512, 1), np.int32),
            deterministic=False,
            rngs={"dropout": jax.random.key(1)},
        )
        return (jnp.tanh(3 * output.hidden_states[-1].astype(jnp.float32)) @ aim).sum()

    params = jax.jit(lambda key: unbox(init_params(model, key)))(jax.random.key(0))
    return jax.jit(jax.grad(loss))(params)["encoder"]


def _error(*path):
    """Of the bfloat16 gradient, as a part of the float32 one."""
    exact, rounded = (functools.reduce(lambda tree, name: tree[name], path, _gradients(d)) for d in DTYPES)
    return np.linalg.norm(rounded - exact) / np.linalg.norm(exact)


DTYPES = ("float32", "bfloat16")


@pytest.mark.parametrize(("table", "row"), [("word", FREQUENT), ("token_type", 0), ("position", 5)])
def test_a_row_that_is_looked_up_often_gets_the_gradient_of_float32(table, row):
    """Added up in bfloat16 it is short by half or more: a large sum does not grow by small terms."""
    assert _error("embeddings", table, "embedding", row) < 0.015


@pytest.mark.parametrize("layer", ["mlp_in", "mlp_out"])
def test_gradients_of_kernels_and_biases_are_near_those_of_float32(layer):
    """A bias is added at every position of the batch: summed in bfloat16 its gradient is wrong by a fifth."""
    assert _error("layer_0", layer, "bias") < 0.015
    assert _error("layer_0", layer, "kernel") < 0.015


PLATFORMS = ("cpu", "tpu")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_of_a_kernel_leaves_its_product_in_the_chosen_dtype(dtype, platform):
    x, kernel = jnp.ones((4, 6, 3), jnp.bfloat16), jnp.ones((3, 5))

    def loss(kernel):
        with products.kernel_gradients(dtype):
            return products.product(x, kernel).astype(jnp.float32).sum()

    text = jax.jit(jax.grad(loss)).trace(kernel).lower(lowering_platforms=(platform,)).as_text()
    made = re.findall(r"dot_general .*-> tensor<[\dx]+x(b?f\d+)>", text)
    assert made[-1] == {"float32": "f32", "bfloat16": "bf16"}[dtype] and set(made[:-1]) <= {"bf16"}
    assert jax.eval_shape(jax.grad(loss), kernel).dtype == jnp.float32


@pytest.mark.parametrize(("inputs", "outputs"), [((8,), (5,)), ((8,), (3, 2)), ((2, 4), (5,))])
def test_a_rounded_product_has_the_gradients_of_the_plain_one(inputs, outputs):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(4, 6, *inputs), (*inputs, *outputs), (4, 6, *outputs)]
    x, kernel, aim = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))

    def loss(x, kernel, dtype):
        return (products.product(x.astype(dtype), kernel, len(inputs)).astype(jnp.float32) * aim).sum()

    flat = x.reshape(4, 6, 8) @ kernel.reshape(8, -1)
    np.testing.assert_allclose(products.product(x, kernel, len(inputs)), flat.reshape(aim.shape), rtol=1e-5, atol=1e-5)

    gradient = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)
    exact, rounded = (gradient(x, kernel, dtype) for dtype in DTYPES)
    for ours, theirs in zip(rounded, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.05)


def test_scores_of_bfloat16_are_sums_of_float32_with_gradients_of_the_plain_ones():
    query, key = (jax.random.normal(k, (2, 5, 3, 64), jnp.bfloat16) for k in jax.random.split(jax.random.key(0)))
    wide = [x.astype(jnp.float32) for x in (query, key)]
    got, exact = products.scores(query, key), products.scores(*wide)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)  # rounded to bfloat16 it would be 0.06 off
    loss = lambda q, k: jnp.sum(jnp.sin(products.scores(q, k)))  # noqa: E731
    gradient = jax.jit(jax.grad(loss, (0, 1)))
    for ours, theirs in zip(gradient(query, key), gradient(*wide), strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, rtol=0.02, atol=0.15)


def test_gelu_and_the_scale_of_dropout_are_rounded_once():
    x = jax.random.normal(jax.random.key(0), (1000,), jnp.bfloat16)
    wide = x.astype(jnp.float32)
    for name in ACTIVATIONS:
        np.testing.assert_array_equal(activate(name, x), activate(name, wide).astype(jnp.bfloat16))
    seed = jnp.array([1, 2], jnp.uint32)
    np.testing.assert_array_equal(dropout(x, 0.1, seed, 0), dropout(wide, 0.1, seed, 0).astype(jnp.bfloat16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_of_a_model_has_its_gradient_in_the_chosen_dtype(dtype):
    """In the program that XLA is given. Compiled for CPU all sums are float32, whatever is asked for."""
    model = build_model(TINY, "classification", 2, dtype="bfloat16")
    params = jax.eval_shape(lambda: unbox(init_params(model, jax.random.key(0))))

    def loss(params, ids):
        with products.kernel_gradients(dtype):
            return model.apply({"params": params}, ids, jnp.ones_like(ids), 0 * ids).logits.sum()

    traced = jax.jit(jax.grad(loss)).trace(params, jax.ShapeDtypeStruct((16, 8), jnp.int32))
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    # Sums over all tokens to matrices: the gradients of the kernels, those of the head being float32.
    made = re.findall(
        r"dot_general .*contracting_dims = \[0(?:, 1)?\] x \[0(?:, 1)?\].*-> tensor<\d+(?:x\d+)+x(b?f\d+)>", text
    )
    assert made.count("bf16") == {"float32": 0, "bfloat16": 6}[dtype]
    assert len(made) == 6 + 2
