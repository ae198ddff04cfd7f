"""Rotations and windows against what they are by definition; what is computed again in the backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models import modernbert
from codir_jax.models.heads import build_model, init_params
from codir_jax.models.rotary import turned, turns
from codir_jax.models.rotary_transformer import in_window
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

TINY = modernbert.FAMILY.from_scratch(
    40, 1, hidden_size=8, num_heads=2, num_layers=3, intermediate_size=12, max_positions=16, local_attention=4
)
RNG = np.random.default_rng(0)


def test_pairs_of_features_are_turned_as_complex_numbers_are():
    x = RNG.normal(size=(2, 5, 6)).astype(np.float32)
    found = np.asarray(turned(jnp.asarray(x), turns(5, 6, 100.0)))
    angles = np.outer(np.arange(5), 100.0 ** (-2 * np.arange(3) / 6))
    expected = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * angles)
    np.testing.assert_allclose(found, np.concatenate([expected.real, expected.imag], -1), atol=1e-6)


def test_scores_depend_on_distances_alone():
    query, key = (jnp.broadcast_to(RNG.normal(size=8).astype(np.float32), (6, 8)) for _ in range(2))
    by = turns(6, 8, 10_000.0)
    scores = np.asarray(turned(query, by) @ turned(key, by).T)
    np.testing.assert_allclose(scores[1:, 1:], scores[:-1, :-1], atol=1e-5)
    assert np.ptp(scores) > 0.1


@pytest.mark.parametrize(("window", "half"), [(1, 0), (4, 2), (5, 2), (128, 64)])
def test_a_window_reaches_half_of_it_to_each_side(window, half):
    expected = [[abs(i - j) <= half for j in range(7)] for i in range(7)]
    assert np.asarray(in_window(7, window)).tolist() == expected


@pytest.mark.parametrize(("remat", "times"), [("none", 0), ("block", 3)])
def test_gradients_of_a_recomputed_layer_wait_for_each_other(remat, times):
    model = build_model(TINY, "classification", 2, remat=remat)
    params = jax.eval_shape(lambda: unbox(init_params(model, jax.random.key(0))))
    ids = np.full((2, 8), 4, np.int32)
    traced = jax.make_jaxpr(jax.grad(lambda p: model.apply({"params": p}, ids, ids // 4, ids).logits.sum()))(params)
    barriers = [e for e in traced.eqns if e.primitive.name == "optimization_barrier"]
    barriers = [e for e in barriers if len(e.invars) > 1]  # those of one array are the norms' own
    weights = [len(jax.tree.leaves(params["encoder"][f"layer_{i}"])) for i in (2, 1, 0)]
    assert weights == [6, 6, 5]  # of the first no norm before its attention
    assert [len(e.invars) for e in barriers] == [n + 1 for n in weights][:times]


def test_a_longer_input_than_it_was_trained_for_is_refused():
    model = build_model(TINY, "classification", 2)
    ids = np.full((1, 17), 4, np.int32)
    with pytest.raises(UserError, match="input of 17 tokens; this modernbert model has positions for 16; set"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), ids, ids, ids))
