"""A language model that another one teaches: the loss by hand, limit cases, both states, devices and microbatches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models.heads import build_model
from codir_jax.models.language_model import decoder
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.objectives import language_distill, language_model
from codir_jax.objectives.contract import Setting, Step, make_objective
from codir_jax.objectives.heads.language_model import LanguageModel
from codir_jax.processes import fields
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.sharding.rules import unbox
from tests.objectives.test_language_model import assert_close, batch

ROWS = 8


@functools.cache
def made(num_microbatches=1, **fields):
    """(setting, objective, its parts with drawn states, jitted value and gradient of student and teacher)."""
    config = language_distill.default_config()
    config.update(fields)
    student, teacher = (
        build_model(LSTMConfig(30, 0, hidden_size=width, initializer_range=0.5, hidden_dropout=0.3), "language_model")
        for width in (6, 9)
    )
    setting = Setting(head=LanguageModel(), student=student, teacher=teacher, num_microbatches=num_microbatches)
    objective = make_objective(config, setting)
    params, frozen, state = unbox(objective.init(jax.random.key(0), batch()))
    rng = np.random.default_rng(1)
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), state)
    compute = jax.jit(jax.value_and_grad(objective.loss, argnums=(0, 1), has_aux=True))
    return setting, objective, (params, frozen, state), compute


def gradient(of_batch, parts=None, step=None, **fields):
    """((loss, (state, metrics)), (gradient, that of the teacher))."""
    _, _, own, compute = made(**fields)
    return compute(*(own if parts is None else parts), of_batch, step or Step(None))


def log_shares(model, params, of_batch, carry, temperature=1.0):
    """(float64 log softmax of the logits [rows, LENGTH, words], the state after the window)."""
    carry = jax.tree.map(lambda x: x * (1 - of_batch["is_start"])[:, None], carry)
    output = model.apply({"params": params}, *[of_batch["input_ids"]] * 3, carry=carry, method="states")
    table, bias = (np.asarray(x, np.float64) for x in decoder(params))
    scores = (np.asarray(output.states, np.float64) @ table.T + bias) / temperature
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True)), output.carry


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_that_of_its_formula_and_both_states_go_on(temperature):
    fields = {"soft_target_temperature": temperature, "task_weight": 0.3, "soft_target_weight": 2.0}
    setting, _, (params, frozen, state), _ = made(**fields)
    one = batch()
    (loss, (after, metrics)), _ = gradient(one, **fields)
    plain, carry = log_shares(setting.student, params["student"], one, state["carry"])
    ours, _ = log_shares(setting.student, params["student"], one, state["carry"], temperature)
    theirs, teacher_carry = log_shares(setting.teacher, frozen["teacher"], one, state["teacher_carry"], temperature)
    nats = -np.take_along_axis(plain, one["next_ids"][..., None], 2)[..., 0]
    soft = temperature**2 * (np.exp(theirs) * (theirs - ours)).sum(-1)
    mask = one["attention_mask"]
    assert float(loss) == pytest.approx((0.3 * nats * mask + 2.0 * soft * mask).sum() / ROWS, rel=1e-5)
    assert [float(x) for x in metrics["soft_target_loss"]] == pytest.approx([(soft * mask).sum(), mask.sum()], rel=1e-5)
    assert_close(after, {"carry": carry, "teacher_carry": teacher_carry})


def test_the_teacher_gets_no_gradient_and_has_no_dropout():
    (first, _), (_, of_teacher) = gradient(batch(), step=Step(jax.random.key(0)))
    (other, _), _ = gradient(batch(), step=Step(jax.random.key(1)))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_teacher))
    assert first != other  # the student's dropout
    states = [gradient(batch(), step=Step(jax.random.key(seed)))[0][1][0]["teacher_carry"] for seed in (0, 1)]
    assert_close(*states)


def test_with_its_own_weights_as_teacher_the_soft_targets_are_at_their_lowest():
    """Nothing to learn there: the gradient is that of the task alone, times its weight."""
    setting, _, (params, _, state), _ = made()
    twin = make_objective(
        language_distill.default_config(), Setting(head=setting.head, student=setting.student, teacher=setting.student)
    )
    state = {"carry": state["carry"], "teacher_carry": state["carry"]}
    frozen = {"teacher": params["student"]}
    (_, (_, metrics)), grads = jax.value_and_grad(twin.loss, has_aux=True)(params, frozen, state, batch(), Step(None))
    plain = language_model.make(language_model.default_config(), Setting(head=setting.head, student=setting.student))
    task = jax.grad(lambda p: plain.loss(p, {}, {"carry": state["carry"]}, batch(), Step(None))[0])(params)
    assert float(metrics["soft_target_loss"][0]) == pytest.approx(0.0, abs=1e-4)
    assert_close(grads, jax.tree.map(lambda x: 0.5 * x, task))


def test_each_term_alone_adds_up_to_the_loss():
    _, objective, parts, _ = made()
    alone = [objective.loss(*parts, batch(), Step(term=term))[0] for term in objective.terms]
    assert float(sum(alone)) == pytest.approx(float(gradient(batch())[0][0]), rel=1e-6)


@pytest.mark.parametrize("fields", [{"num_microbatches": 4}, {"vocab_chunk_size": 7}])
def test_microbatches_and_chunks_of_the_vocabulary_give_the_same(fields):
    assert_close(gradient(batch(), **fields), gradient(batch()))


def test_eight_devices_and_padding_rows_give_that_of_one_without():
    one = batch(6, num_padding=2)
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    split, whole = rules.batch_sharding(mesh), rules.replicated(mesh)
    params, frozen, state = made()[2]
    placed = jax.device_put(params, whole), jax.device_put(frozen, whole), jax.device_put(state, split)
    sharded = gradient(jax.device_put(one, split), placed)
    assert_close(sharded, gradient(one))
    rows = {name: x[:6] for name, x in one.items()}
    (plain, (after, metrics)), grads = gradient(rows, (params, frozen, jax.tree.map(lambda x: x[:6], state)))
    (padded, (padded_after, padded_metrics)), padded_grads = sharded
    assert_close((padded, padded_metrics, padded_grads), (plain, metrics, grads))
    assert_close(jax.tree.map(lambda x: x[:6], padded_after), after)


def test_a_teacher_of_another_vocabulary_is_refused():
    setting = made()[0]
    other = build_model(LSTMConfig(31, 0, 6), "language_model")
    with pytest.raises(UserError, match="a vocabulary of 30, the teacher of 31"):
        make_objective(
            language_distill.default_config(), Setting(head=setting.head, student=setting.student, teacher=other)
        )


def test_fields_out_of_range_are_refused():
    config = language_distill.default_config()
    config.soft_target_temperature = 0.0
    with pytest.raises(UserError, match="soft_target_temperature"):
        fields.check(language_distill.FIELDS, config, "objective")
