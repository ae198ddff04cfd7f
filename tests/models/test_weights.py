"""A model whose weights are factors computes what the model of their products does, and learns its factors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.compression import factors, methods
from codir_jax.models import bert
from codir_jax.models.heads import abstract_params, build_model, init_params
from codir_jax.models.weights import axes_of
from codir_jax.sharding import rules

SIZES = dataclasses.replace(
    bert.BASE, vocab_size=60, hidden_size=24, num_layers=1, num_heads=2, intermediate_size=36, max_positions=30
)
IDS = np.random.default_rng(0).integers(0, 60, (2, 7)).astype(np.int32)
INPUTS = (IDS, np.ones_like(IDS), np.zeros_like(IDS))


def _model(head, remat="none"):
    model = build_model(SIZES, head, 3, remat=remat)
    params = jax.jit(lambda key: rules.unbox(init_params(model, key)))(jax.random.key(0))
    return model, jax.tree.map(np.asarray, params)


@pytest.mark.parametrize(("head", "method"), [("classification", "rank6"), ("masked_lm", "tt3")])
def test_factors_stand_in_for_a_weight(method, head):
    """All products and look-ups of a model: query, key, value, output, both of the feed-forward, words, positions."""
    model, params = _model(head)
    weights, changed = methods.compress(params, methods.parse(method))
    assert {path.split("/")[-2] for path in changed[method]} >= {"query", "output", "mlp_in", "mlp_out", "word"}
    dense = methods.nested({path: weight.numbers() for path, weight in weights.items()})
    run = jax.jit(lambda params: model.apply({"params": params}, *INPUTS).logits)
    np.testing.assert_allclose(run(methods.tree_of(weights)), run(dense), atol=1e-5)


@pytest.mark.slow
def test_factors_are_learned_also_where_layers_are_computed_again():
    model, params = _model("classification", remat="block")
    plain = _model("classification")[0]
    tree = methods.tree_of(methods.compress(params, methods.parse("rank6"))[0])
    gradients = [
        jax.grad(lambda p, m=m: (m.apply({"params": p}, *INPUTS).logits ** 2).sum())(tree) for m in (model, plain)
    ]
    query = gradients[0]["encoder"]["layer_0"]["attention"]["query"]["kernel"]
    assert set(query) == {"factor_0", "factor_1"} and all(np.abs(g).max() > 0 for g in query.values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *gradients)


def test_factors_lie_on_the_mesh_as_their_weight_does():
    model, params = _model("classification")
    tree = methods.tree_of(methods.compress(params, methods.parse("rank6+int8"))[0])
    axes = rules.logical_axes(axes_of(abstract_params(model), tree))
    layer = axes["encoder"]["layer_0"]
    assert layer["mlp_in"]["kernel"] == {"factor_0": ("embed", None), "factor_1": (None, "mlp")}
    assert axes["encoder"]["embeddings"]["word"]["embedding"] == {
        "factor_0": ("vocab", None),
        "factor_1": (None, "embed"),
    }
    assert layer["mlp_in"]["bias"] == ("mlp",)


@pytest.mark.parametrize("method", ["rank6", "tt3"])
def test_a_weight_whole(method):
    _, params = _model("classification")
    weights, _ = methods.compress(params, methods.parse(method))
    word = weights["encoder/embeddings/word/embedding"]
    np.testing.assert_allclose(factors.whole(factors.in_tree(word)), word.numbers(), atol=1e-6)
    turned = factors.transposed(factors.in_tree(word))
    np.testing.assert_allclose(factors.apply(jnp.eye(24), turned), word.numbers().T, atol=1e-6)
