"""The encoder's own behaviour: initialisation, dropout, configuration."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codir_jax.models import bert, roberta
from codir_jax.models.dropout import keep_mask
from codir_jax.models.heads import build_model, init_params
from codir_jax.models.transformer import TransformerConfig
from codir_jax.sharding.rules import unbox

TINY = dataclasses.replace(
    bert.BASE, vocab_size=50, hidden_size=24, num_layers=1, num_heads=2, intermediate_size=32, max_positions=16
)
IDS = np.arange(2 * 8, dtype=np.int32).reshape(2, 8) + 4
INPUTS = (IDS, np.ones_like(IDS), np.zeros_like(IDS))


def fresh(model, seed=0):
    return jax.jit(lambda key: unbox(init_params(model, key)))(jax.random.key(seed))


def forward(model, params, inputs=INPUTS):
    return jax.jit(model.apply)({"params": params}, *inputs)


@pytest.fixture(scope="module")
def tiny():
    model = build_model(TINY, "classification", 2)
    return model, fresh(model)


def test_initialisation_is_deterministic_in_the_key(tiny):
    model, params = tiny
    again, other = (fresh(model, seed) for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (params, again)), strict=True))
    kernels = (p["encoder"]["layer_0"]["mlp_in"]["kernel"] for p in (params, other))
    assert not np.array_equal(*kernels)


def test_initialisation_has_the_configured_spread(tiny):
    _, params = tiny
    kernel = params["encoder"]["layer_0"]["attention"]["query"]["kernel"]
    assert abs(float(jnp.std(kernel)) - 0.02) < 0.002
    assert not np.any(params["encoder"]["layer_0"]["attention"]["query"]["bias"])
    np.testing.assert_array_equal(params["encoder"]["embeddings"]["norm"]["scale"], 1.0)


def test_dropout_is_off_by_default_and_random_by_key_when_on(tiny):
    model, params = tiny
    still = forward(model, params).logits
    np.testing.assert_array_equal(still, forward(model, params).logits)

    @jax.jit
    def noisy(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply({"params": params}, *INPUTS, deterministic=False, rngs=rngs).logits

    np.testing.assert_array_equal(noisy(0), noisy(0))
    assert not np.array_equal(noisy(0), noisy(1))
    assert not np.array_equal(noisy(0), still)


SEED = np.array([123, 456], np.uint32)


def masks(seed=SEED, site=0, rate=0.1, shape=(64, 50, 65)):
    keep, share = keep_mask(jnp.asarray(seed), site, rate, shape)
    return np.asarray(keep), share


def correlation(a, b):
    """In units of the spread that independent masks would have."""
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * np.sqrt(a.size)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_stated_share(rate):
    keep, share = masks(rate=rate)
    assert abs(share - (1 - rate)) < 1e-9
    assert abs(keep.mean() - share) < 5 * np.sqrt(rate * (1 - rate) / keep.size)
    for axis in range(3):  # and so does every row, column and layer of it
        others = tuple(i for i in range(3) if i != axis)
        expected = np.sqrt(rate * (1 - rate) / (keep.size / keep.shape[axis]))
        assert np.abs(keep.mean(others) - share).max() < 5 * expected


def test_masks_of_neighbours_sites_and_seeds_are_independent():
    keep, _ = masks()
    for step in (1, 2, 64, 65):
        assert correlation(keep.ravel()[step:], keep.ravel()[:-step]) < 5
    for other in (masks(site=1), masks(site=2), masks(seed=SEED + np.uint32(1)), masks(seed=SEED[::-1])):
        assert correlation(keep, other[0]) < 5


def test_a_batch_split_over_devices_draws_the_mask_of_one_device():
    shape = (16, 4, 7, 10)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = jax.jit(lambda s: keep_mask(s, 3, 0.1, shape)[0], out_shardings=NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(split(SEED), masks(site=3, shape=shape)[0])


def test_a_rate_of_zero_is_no_dropout(tiny):
    _, params = tiny
    config = dataclasses.replace(TINY, hidden_dropout=0.0, attention_dropout=0.0)
    model = build_model(config, "classification", 2)
    on = jax.jit(lambda p: model.apply({"params": p}, *INPUTS, deterministic=False))(params)
    np.testing.assert_array_equal(on.logits, forward(model, params).logits)


def test_a_narrower_student_is_only_a_configuration():
    model = build_model(dataclasses.replace(TINY, hidden_size=12, num_heads=3, num_layers=1), "classification", 2)
    params = fresh(model)
    assert forward(model, params).hidden_states[-1].shape == (2, 8, 12)


def test_regression_is_a_head_of_one_output():
    model = build_model(TINY, "classification", 1)
    params = fresh(model)
    assert forward(model, params).logits.shape == (2, 1)


def test_roberta_counts_positions_over_tokens_only():
    """Padding on the left moves nothing: positions follow the tokens."""
    config = dataclasses.replace(
        roberta.BASE, vocab_size=50, hidden_size=24, num_layers=1, num_heads=2, intermediate_size=32, max_positions=20
    )
    model = build_model(config, "masked_lm")
    params = fresh(model)
    left = np.concatenate([np.full((2, 3), config.pad_token_id, np.int32), IDS], axis=1)
    out = forward(model, params, (left, (left != 1).astype(np.int32), np.zeros_like(left)))
    plain = forward(model, params)
    np.testing.assert_allclose(out.logits[:, 3:], plain.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "silu"}, "hidden_act 'silu' is not supported; known: gelu"),
        ({"num_heads": 5}, "num_heads 5 does not divide hidden_size 24"),
        ({"masked_lm_act": "silu"}, "masked_lm_act 'silu' is not supported; known: gelu"),
        ({"num_layers": 0}, "num_layers: expected a whole number, 1 to 1000, got 0"),
        ({"max_positions": 2, "position_offset": 2}, "leaves no position"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**{**dataclasses.asdict(TINY), **change})


def test_a_model_of_an_unknown_family_lists_the_known():
    with pytest.raises(ValueError, match="model family 'gpt' is not supported; known: bert, deberta-v2, distilbert"):
        build_model(dataclasses.replace(TINY, family="gpt"))


def test_an_unknown_head_lists_the_known():
    with pytest.raises(ValueError, match="unknown head 'span'; known: classification, masked_lm"):
        build_model(TINY, "span")


def test_remat_keeps_less_for_the_backward_pass_and_changes_no_gradient():
    deep = dataclasses.replace(TINY, num_layers=3, relative_buckets=32)
    params = fresh(build_model(deep, "classification", 2))
    kept, gradients = {}, {}
    for remat in ("none", "dots", "block"):
        model = build_model(deep, "classification", 2, remat=remat)

        def loss(p, model=model):
            rngs = {"dropout": jax.random.key(0)}
            output = model.apply({"params": p}, *INPUTS, deterministic=False, rngs=rngs)
            return (output.logits**2).sum() + (output.hidden_states[2] ** 2).sum()

        residuals = jax.tree.leaves(jax.eval_shape(lambda p, loss=loss: jax.vjp(loss, p)[1], params))
        kept[remat] = sum(leaf.size * leaf.dtype.itemsize for leaf in residuals)
        gradients[remat] = jax.jit(jax.grad(loss))(params)
    assert kept["block"] < 0.8 * kept["dots"] < 0.8 * kept["none"]
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradients["none"]))
    for remat in ("dots", "block"):
        for ours, theirs in zip(*map(jax.tree.leaves, (gradients[remat], gradients["none"])), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize(("remat", "times"), [("none", 0), ("block", 3)])
def test_gradients_of_a_recomputed_layer_wait_for_each_other(remat, times):
    deep = dataclasses.replace(TINY, num_layers=3)
    model = build_model(deep, "classification", 2, remat=remat)
    params = jax.eval_shape(lambda: unbox(init_params(model, jax.random.key(0))))
    traced = jax.make_jaxpr(jax.grad(lambda p: model.apply({"params": p}, *INPUTS).logits.sum()))(params)
    barriers = [e for e in traced.eqns if e.primitive.name == "optimization_barrier"]
    barriers = [e for e in barriers if len(e.invars) > 1]  # those of one array are the norms' own
    weights = len(jax.tree.leaves(params["encoder"]["layer_0"]))
    assert [len(e.invars) for e in barriers] == [weights + 1] * times


def test_an_unknown_remat_lists_the_known_ones():
    with pytest.raises(ValueError, match="known: none, block, dots"):
        build_model(TINY, remat="some")
