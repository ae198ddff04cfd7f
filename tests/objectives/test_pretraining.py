"""CoDIR, distillation and masked LM at pre-training: which rows are negatives, what is refused, held-out metrics."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from codir_jax.losses import contrastive
from codir_jax.models.apply import apply_model
from codir_jax.models.heads import abstract_params
from codir_jax.objectives import codir, distill, finetune, masked_lm
from codir_jax.objectives.contract import Step, make_objective
from codir_jax.objectives.contrastive_term import contrastive_term, init_state
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.sharding.rules import unbox
from codir_jax.tasks.masked_lm_evaluation import evaluate_batch
from tests.objectives import tiny

SETTING = tiny.pretraining_setting()
BATCH = tiny.batch(SETTING, np.arange(8), num_padding=2)  # documents 0 0 0 1 1 1 2 2


def config(mask_same_document=False, **changes):
    made = codir.default_config("pretrain")
    made.update({"projection_dim": 8, **changes})
    made.negatives.update({"queue_size": 12, "mask_same_document": mask_same_document})
    return made


@functools.cache
def term(mask_same_document):
    """(jitted contrastive term of random features, its first state): all that is asked of negatives, without models."""
    options = config(mask_same_document)
    rng = np.random.default_rng(0)
    rows = {side: contrastive.unit_rows(rng.normal(size=(10, 1, 8))) for side in ("student", "teacher")}
    of_features = lambda state, batch: contrastive_term(options, rows, state, {}, batch)[1:]  # noqa: E731
    return jax.jit(of_features), unbox(init_state(jax.random.key(0), options, 0, 1))


def metrics_of(batch, state=None, mask_same_document=False):
    """(metrics, next state)."""
    of_features, first = term(mask_same_document)
    state, metrics = of_features(first if state is None else state, batch)
    return {name: tuple(map(float, pair)) for name, pair in metrics.items()}, state


def weights(shapes):
    """Random arrays of these shapes by numpy: nothing to compile."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(scale=0.3, size=leaf.shape).astype(np.float32), unbox(shapes))


def test_neighbours_of_the_same_document_are_hard_negatives():
    metrics, _ = metrics_of(BATCH)
    assert metrics["num_negatives"] == (8 * 7, 8)
    assert metrics["num_hard_negatives"] == (6 * 2 + 2 * 1, 8)
    assert metrics["hard_retrieval_rate"][1] == 8
    assert metrics["hard_retrieval_rate"][0] >= metrics["retrieval_rate"][0]


def test_rows_of_the_same_document_can_be_left_out_of_batch_and_queue():
    metrics, state = metrics_of(BATCH, mask_same_document=True)
    assert metrics["num_negatives"] == (6 * 5 + 2 * 6, 8)
    assert metrics["num_hard_negatives"] == (0, 8)
    assert metrics["hard_retrieval_rate"] == (0, 0)
    again, _ = metrics_of(BATCH, state, mask_same_document=True)
    assert again["num_negatives"] == (2 * (6 * 5 + 2 * 6), 8)  # in the batch and once more in the queue


def test_equal_texts_are_no_negatives_of_each_other_in_batch_and_queue():
    batch = {**BATCH, "text_ids": BATCH["text_ids"].copy()}
    batch["text_ids"][1] = batch["text_ids"][0]
    metrics, state = metrics_of(batch)
    assert metrics["num_negatives"] == (8 * 7 - 2, 8)
    assert metrics["num_hard_negatives"] == (6 * 2 + 2 - 2, 8)
    other = tiny.batch(SETTING, np.arange(8, 16), num_padding=2)
    other["text_ids"][0] = batch["text_ids"][5]
    metrics, _ = metrics_of(other, state)
    assert metrics["num_negatives"] == (8 * 7 + 8 * 8 - 1, 8)


def test_a_batch_without_documents_has_no_metrics_of_hard_negatives_and_cannot_mask_them():
    batch = {name: value for name, value in BATCH.items() if name != "document_ids"}
    metrics, _ = metrics_of(batch)
    assert metrics["num_negatives"] == (8 * 7, 8)
    assert "num_hard_negatives" not in metrics
    with pytest.raises(ValueError, match="needs document_ids"):
        metrics_of(batch, mask_same_document=True)


def test_no_table_of_the_corpus_lies_on_the_devices():
    _, frozen, state = jax.eval_shape(codir.make(config(), SETTING).init, jax.random.key(0), BATCH)
    assert set(frozen) == {"teacher"}
    assert set(state) == {"queue"}


def test_the_masked_lm_loss_is_that_of_all_logits():
    objective = masked_lm.make(masked_lm.default_config(), SETTING)
    params = {"student": weights(abstract_params(SETTING.student))}
    loss, (_, metrics) = jax.jit(objective.loss)(params, {}, {}, BATCH, Step())
    inputs = {name: BATCH[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    logits = np.asarray(jax.jit(lambda p: apply_model(SETTING.student, p, inputs).logits)(params["student"]))
    logits = np.take_along_axis(logits, BATCH["masked_positions"][..., None], 1)
    used = BATCH["masked_weights"] > 0
    expected = optax.softmax_cross_entropy_with_integer_labels(logits[used], BATCH["masked_labels"][used])
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    assert metrics["masked_lm_loss"][1] == used.sum() == 16
    right = logits[used].argmax(-1) == BATCH["masked_labels"][used]
    assert float(metrics["masked_accuracy"][0]) == right.sum()


def test_one_network_as_teacher_and_student_is_told_by_the_held_out_metrics():
    setting = dataclasses.replace(SETTING, student=SETTING.teacher)
    same = weights(abstract_params(SETTING.teacher))
    found = jax.jit(lambda p, f, b: evaluate_batch(distill.default_config(), setting, p, f, b))(
        {"student": same}, {"teacher": same}, BATCH
    )
    found = {name: tuple(map(float, pair)) for name, pair in found.items()}
    assert found["teacher_kl"][0] == pytest.approx(0, abs=1e-4)
    assert found["teacher_agreement"] == (16, 16)
    assert found["masked_lm_loss"] == pytest.approx(found["teacher_masked_lm_loss"], rel=1e-6)
    assert found["retrieval_rate_unprojected"] == (8, 8)
    assert found["hard_retrieval_rate_unprojected"] == (8, 8)
    assert "retrieval_rate" not in found  # nothing is projected


def test_held_out_metrics_of_codir_have_both_retrieval_rates_on_one_device_and_on_eight():
    params, frozen, _ = weights(jax.eval_shape(codir.make(config(), SETTING).init, jax.random.key(0), BATCH))
    batch = tiny.batch(SETTING, np.arange(14), num_padding=2)
    evaluate = jax.jit(lambda p, f, b: evaluate_batch(config(), SETTING, p, f, b))
    one = evaluate(params, frozen, batch)
    assert {"retrieval_rate", "retrieval_rate_unprojected", "teacher_kl", "masked_accuracy"} <= set(one)
    assert {name: float(count) for name, (_, count) in one.items() if "retrieval" in name} == {
        "retrieval_rate": 14,
        "retrieval_rate_unprojected": 14,
        "hard_retrieval_rate_unprojected": 14,
    }
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    eight = evaluate(
        *jax.device_put((params, frozen), rules.replicated(mesh)), jax.device_put(batch, rules.batch_sharding(mesh))
    )
    for name in one:
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-5, err_msg=name)


def test_held_out_metrics_of_one_batch_are_the_sum_of_its_parts():
    """Of a model without a teacher; padding counts nowhere."""
    setting = dataclasses.replace(SETTING, teacher=None)
    params = {"student": weights(abstract_params(SETTING.student))}
    evaluate = jax.jit(lambda p, b: evaluate_batch(masked_lm.default_config(), setting, p, {}, b))
    whole = evaluate(params, BATCH)
    parts = [
        evaluate(params, tiny.batch(SETTING, rows, num_padding=10 - len(rows))) for rows in ([0, 1, 2], range(3, 8))
    ]
    assert set(whole) == {"masked_lm_loss", "masked_accuracy"}
    for name, pair in whole.items():
        np.testing.assert_allclose(np.sum([part[name] for part in parts], axis=0), pair, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "in_batch+bank"}, "bank would keep a row for each row of the corpus; .* 'in_batch\\+queue'"),
        ({"source": "teacher_cache+queue"}, "teacher_cache would keep"),
    ],
)
def test_sources_with_a_row_for_each_row_of_the_corpus_are_refused(change, message):
    refused = config(anchors="student")
    refused.negatives.update(change)
    with pytest.raises(ValueError, match=message):
        codir.make(refused, SETTING)


def test_a_setting_of_another_head_is_refused():
    with pytest.raises(UserError, match="'masked_lm' trains a masked_lm head, and the task has a classification head"):
        make_objective(masked_lm.default_config(), tiny.setting())
    with pytest.raises(UserError, match="objectives for it: codir, distill, masked_lm"):
        make_objective(finetune.default_config(), SETTING)
    with pytest.raises(ValueError, match="mask_same_document is for pre-training"):
        fine_tuning = codir.default_config()
        fine_tuning.negatives.mask_same_document = True
        codir.make(fine_tuning, tiny.setting())


@pytest.mark.parametrize("name", ["distill", "codir"])
def test_a_teacher_of_another_vocabulary_is_refused(name):
    other = dataclasses.replace(SETTING.teacher.config, vocab_size=41)
    setting = dataclasses.replace(SETTING, teacher=SETTING.teacher.clone(config=other))
    made = config() if name == "codir" else distill.default_config()
    with pytest.raises(ValueError, match="vocabulary of 40, the teacher of 41"):
        make_objective(made, setting)
