"""Maximum likelihood on a stream: the loss by hand, the carried state, devices and microbatches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models.heads import build_model
from codir_jax.models.language_model import decoder
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.objectives import language_model
from codir_jax.objectives.contract import Setting, Step, make_objective
from codir_jax.objectives.heads.language_model import LanguageModel, cross_entropy
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny

LENGTH = 5


def batch(rows=8, num_padding=0, seed=0):
    """Rows of random tokens; the second goes on for two tokens only, the third one is not at its start."""
    ids = np.random.default_rng(seed).integers(0, 30, (rows + num_padding, LENGTH + 1)).astype(np.int32)
    is_real = np.arange(rows + num_padding) < rows
    mask = np.repeat(is_real[:, None], LENGTH, 1).astype(np.int32)
    mask[1, 2:] = 0
    return {
        "input_ids": ids[:, :-1],
        "next_ids": ids[:, 1:],
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
        "is_start": np.where(np.arange(len(ids)) == 2, 0.0, 1.0).astype(np.float32),
        "example_mask": is_real.astype(np.float32),
    }


@functools.cache
def made(num_microbatches=1, dropout=0.0, vocab_chunk_size=0):
    """(model, objective, params, jitted value and gradient)."""
    config = language_model.default_config()
    config.vocab_chunk_size = vocab_chunk_size
    model = build_model(LSTMConfig(30, 0, 6, initializer_range=0.5, hidden_dropout=dropout), "language_model")
    objective = make_objective(config, Setting(head=LanguageModel(), student=model, num_microbatches=num_microbatches))
    params = tiny.start(objective, batch())[0]
    return model, objective, params, jax.jit(jax.value_and_grad(objective.loss, has_aux=True))


def gradient(of_batch, state=None, rng=None, **options):
    """((loss, (state, metrics)), gradient); the state before is drawn, of the rows of the batch."""
    _, _, params, compute = made(**options)
    return compute(params, {}, drawn(len(of_batch["input_ids"])) if state is None else state, of_batch, Step(rng))


def drawn(rows):
    """A state of random numbers; rows that are there in two of them are the same."""
    _, objective, *_ = made()
    zeros = unbox(jax.eval_shape(lambda: objective.init(jax.random.key(0), batch())[2]))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=(64, *x.shape[1:]))[:rows], jnp.float32), zeros)


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


def test_the_loss_is_summed_over_time_and_averaged_over_rows():
    model, _, params, _ = made()
    one, state = batch(), drawn(8)
    (loss, (after, metrics)), _ = gradient(one, state)
    kept = jax.tree.map(lambda x: x * (1 - one["is_start"])[:, None], state["carry"])
    output = model.apply({"params": params["student"]}, *[one["input_ids"]] * 3, carry=kept, method="states")
    table, bias = decoder(params["student"])
    shares = jax.nn.log_softmax(output.states @ table.T + bias)
    nats = -np.take_along_axis(np.asarray(shares), one["next_ids"][..., None], 2)[..., 0]
    assert loss == pytest.approx((nats * one["attention_mask"]).sum() / 8, rel=1e-5)
    assert metrics["language_model_loss"][1] == 8 * LENGTH - 3
    assert_close(after["carry"], output.carry)


def test_a_row_that_begins_anew_forgets_and_another_one_goes_on():
    zero = jax.tree.map(jnp.zeros_like, drawn(8))
    begun, cold = gradient(batch()), gradient(batch(), zero)
    for a, b in zip(jax.tree.leaves(begun[0][1][0]), jax.tree.leaves(cold[0][1][0]), strict=True):
        is_equal = np.isclose(a, b, atol=1e-7).all(1)
        assert is_equal.tolist() == [row != 2 for row in range(8)]


def test_no_gradient_goes_into_the_window_before():
    _, objective, params, _ = made()
    of_state = jax.grad(lambda state: objective.loss(params, {}, state, batch(), Step())[0])(drawn(8))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_state))


def test_two_windows_are_one_window_of_twice_the_length():
    """In the forward pass: what the state carries is all that the second one needs."""
    one = {**batch(), "attention_mask": np.ones((8, LENGTH), np.int32)}
    halves = [{k: v[:, s] if v.ndim > 1 else v for k, v in one.items()} for s in (slice(0, 2), slice(2, LENGTH))]
    halves[1]["is_start"] = np.zeros(8, np.float32)
    (whole, (end, _)), _ = gradient(one)
    (first, (state, _)), _ = gradient(halves[0])
    (second, (state, _)), _ = gradient(halves[1], state)
    assert float(whole) == pytest.approx(float(first + second), rel=1e-6)
    assert_close(state, end)


def test_eight_devices_give_the_loss_gradient_and_state_of_one():
    one = batch(6, num_padding=2)
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    split = rules.batch_sharding(mesh)
    _, _, params, compute = made()
    params = jax.device_put(params, rules.replicated(mesh))
    sharded = compute(params, {}, jax.device_put(drawn(8), split), jax.device_put(one, split), Step(None))
    assert_close(sharded, gradient(one))


def test_the_state_is_split_as_a_batch_is():
    _, objective, *_ = made()
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    boxed = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch()))
    places = jax.tree.leaves(rules.shardings(boxed[2], mesh))
    assert places and all(place == rules.batch_sharding(mesh) for place in places)


@pytest.mark.parametrize("options", [{"num_microbatches": 4}, {"vocab_chunk_size": 7}])
def test_microbatches_and_chunks_of_the_vocabulary_give_the_same(options):
    assert_close(gradient(batch(), **options), gradient(batch()))


def test_padding_rows_change_nothing():
    (loss, (state, metrics)), grads = gradient(batch(6, num_padding=2))
    (plain, (plain_state, plain_metrics)), plain_grads = gradient({k: v[:6] for k, v in batch(6, 2).items()})
    assert_close((loss, metrics, grads), (plain, plain_metrics, plain_grads))
    assert_close(jax.tree.map(lambda x: x[:6], state), plain_state)


def test_dropout_is_drawn_by_the_step():
    losses = [float(gradient(batch(), rng=jax.random.key(seed), dropout=0.5)[0][0]) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_it_trains_no_other_head_and_no_other_vocabulary():
    with pytest.raises(UserError, match="'language_model' trains a language_model head"):
        make_objective(language_model.default_config(), tiny.setting())
    head, model = LanguageModel(), made()[0]
    with pytest.raises(UserError, match="a vocabulary of 30, the teacher of 31"):
        head.check_pair(model, build_model(LSTMConfig(31, 0, 6), "language_model"))


def test_the_cross_entropy_of_equal_logits_is_that_of_a_choice():
    view = LanguageModel().view(jnp.zeros((2, 3, 6)), jax.tree.map(jnp.zeros_like, made()[2]["student"]))
    np.testing.assert_allclose(cross_entropy(view, jnp.zeros((2, 3), jnp.int32)), np.log(30), rtol=1e-6)
