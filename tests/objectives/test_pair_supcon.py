"""PairSupCon: golden numbers of the released loss, limits, masks, refusals; the ranking loss re-derived."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses.contrastive import unit_rows
from codir_jax.objectives import pair_supcon
from codir_jax.objectives.contract import Step
from codir_jax.objectives.heads import embedding
from codir_jax.objectives.sums import mean
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from tests.losses.test_contrastive import lin
from tests.objectives import tiny


def _config(**changes):
    config = pair_supcon.default_config()
    config.update(changes)
    return config


def _batch(labels, num_texts=2, **columns):
    """What `instance_terms` reads: real rows, all texts different."""
    num_rows = len(labels)
    return {
        "example_mask": jnp.ones(num_rows),
        "labels": jnp.asarray(labels, jnp.int32),
        "label_mask": jnp.full(num_rows, float(num_texts == 2)),
        "text_ids": jnp.arange(num_rows * num_texts).reshape(num_rows, num_texts),
        **columns,
    }


@functools.cache
def _value_and_gradient(instance, temperature, alpha_gradient=True, mask_same_text=True):
    config = _config(
        instance=instance, temperature=temperature, alpha_gradient=alpha_gradient, mask_same_text=mask_same_text
    )

    def loss(views, batch):
        metrics = pair_supcon.instance_terms(config, views, batch)
        return mean(metrics["instance_loss"]), metrics

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def _loss(views, batch, instance, temperature=0.05, **options):
    """(value, gradient to the views, metrics)."""
    (value, metrics), gradient = _value_and_gradient(instance, temperature, **options)(views, batch)
    return value, gradient, metrics


VIEWS = jnp.stack([unit_rows(lin((4, 5), b=1.1)), unit_rows(lin((4, 5), b=1.7))], axis=1)
LABELS = [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("instance", "temperature", "expected", "gradient_norm"),
    [
        ("orig", 0.05, 1.3036000, 7.163671),
        ("orig", 0.5, 1.1277562, 1.056202),
        ("hard_negative", 0.05, 2.3468719, 11.271823),
        ("hard_negative", 0.5, 1.7025504, 1.321237),
    ],
)
def test_the_instance_loss_meets_the_released_one(instance, temperature, expected, gradient_norm):
    value, gradient, _ = _loss(VIEWS, _batch(LABELS), instance, temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(gradient[:, 0]), gradient_norm, rtol=1e-6)
    order = np.array([2, 0, 3, 1])
    again, permuted, _ = _loss(VIEWS[order], _batch(np.array(LABELS)[order]), instance, temperature)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    np.testing.assert_allclose(permuted, gradient[order], atol=1e-5)


def test_hard_negatives_weigh_the_scores_as_the_formula_says():
    """Re-derived in float64 from the scores, one view after the other."""
    views = np.asarray(VIEWS, np.float64).transpose(1, 0, 2).reshape(8, 5)
    scores = views @ views.T / 0.05
    losses = []
    for i in (0, 2, 4, 6):
        partner = (i + 4) % 8
        others = np.array([j for j in range(8) if j not in (i, partner)])
        alpha = np.exp(scores[i, others]) / np.exp(scores[i, others]).mean()
        losses.append(np.log1p(np.exp(-scores[i, partner]) * np.sum(alpha * np.exp(scores[i, others]))))
    value, gradient, _ = _loss(VIEWS, _batch(LABELS), "hard_negative")
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    still, other, _ = _loss(VIEWS, _batch(LABELS), "hard_negative", alpha_gradient=False)
    np.testing.assert_allclose(still, value, rtol=1e-6)
    assert np.abs(other - gradient).max() > 0.01 * np.abs(gradient).max()


@pytest.mark.parametrize("instance", ["orig", "hard_negative"])
def test_equal_scores_give_the_log_of_the_number_of_views(instance):
    views = jnp.broadcast_to(unit_rows(lin((1, 1, 5))), (4, 2, 5))
    value, gradient, _ = _loss(views, _batch([1] * 4), instance)
    np.testing.assert_allclose(value, np.log(2 * 4 - 1), rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_hard_negatives_never_make_the_loss_smaller():
    for seed in range(5):
        views = unit_rows(np.random.default_rng(seed).normal(size=(4, 2, 5)))
        hard, orig = (_loss(views, _batch(LABELS), name)[0] for name in ("hard_negative", "orig"))
        assert hard >= orig


@pytest.mark.parametrize("instance", ["orig", "hard_negative", "ranking"])
@pytest.mark.parametrize("labels", [[1], [0, 0, 0, 0]])
def test_without_a_negative_or_an_entailed_pair_loss_and_gradient_are_zero(instance, labels):
    value, gradient, metrics = _loss(VIEWS[: len(labels)], _batch(labels), instance)
    assert value == 0 and not np.any(gradient)
    assert metrics["num_pairs"][0] == sum(labels) and metrics["num_negatives"][0] == 0


@pytest.mark.parametrize("instance", ["orig", "hard_negative"])
def test_a_text_that_occurs_twice_is_no_negative_of_itself_or_of_its_partner(instance):
    """Row 1 says again what row 0 says first, and row 2 what row 0 says second."""
    batch = _batch([1, 0, 0, 0], text_ids=jnp.array([[0, 1], [0, 3], [4, 1], [6, 7]]))
    value, gradient, metrics = _loss(VIEWS, batch, instance)
    assert metrics["num_masked"] == (4, 2) and metrics["num_negatives"] == (8, 2)
    assert not np.any(gradient[1, 0]) and not np.any(gradient[2, 1])
    elsewhere = VIEWS.at[1, 0].set(-VIEWS[0, 0]).at[2, 1].set(VIEWS[0, 0])
    np.testing.assert_allclose(_loss(elsewhere, batch, instance)[0], value, rtol=1e-6)
    released = _loss(VIEWS, batch, instance, mask_same_text=False)
    np.testing.assert_allclose(released[0], _loss(VIEWS, _batch([1, 0, 0, 0]), instance)[0], rtol=1e-6)
    assert released[2]["num_masked"][0] == 0


@pytest.mark.parametrize("num_texts", [2, 3])
def test_the_ranking_loss_is_a_cross_entropy_over_the_other_texts_of_the_batch(num_texts):
    """-log softmax of the own second text among all second and third ones; the third of row 1 is missing."""
    views = np.asarray(unit_rows(np.random.default_rng(0).normal(size=(4, num_texts, 5))))
    more = {"has_negative": jnp.array([1.0, 0.0, 1.0, 1.0])} if num_texts == 3 else {}
    value, _, _ = _loss(views, _batch([1, 1, 1, 1], num_texts, **more), "ranking")
    keys = [(row, text) for text in range(1, num_texts) for row in range(4) if (row, text) != (1, 2)]
    losses = []
    for row in range(4):
        logits = np.array([views[row, 0] @ views[key] for key in keys], np.float64) / 0.05
        losses.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[keys.index((row, 1))])
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)


def test_a_dead_unit_gives_a_zero_vector_and_finite_gradients():
    head = {"hidden": {"kernel": -jnp.ones((3, 3))}, "output": {"kernel": jnp.ones((3, 2))}}
    vectors = jnp.array([[[1.0, 2.0, 3.0], [-1.0, -2.0, 1.0]], [[0.5, 0.1, -3.0], [1.0, 0.0, -2.0]]])

    def loss(head, vectors):
        views = pair_supcon.project(head, vectors)
        return mean(pair_supcon.instance_terms(_config(), views, _batch([1, 1]))["instance_loss"]), views

    (value, views), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(head, vectors)
    assert not np.any(views[0, 0]) and np.any(views[0, 1])
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_the_size_of_a_vector_matters_to_the_classifier_and_not_to_its_view():
    head = {"hidden": {"kernel": lin((3, 3))}, "output": {"kernel": lin((3, 2), b=0.3)}}
    vectors = lin((2, 2, 3), b=0.2)
    project, classify = jax.jit(pair_supcon.project), jax.jit(pair_supcon.classify_terms)
    np.testing.assert_allclose(project(head, 7 * vectors), project(head, vectors), atol=1e-6)
    classifier = {"output": {"kernel": lin((9, 2))}}
    one, seven = (classify(classifier, x, jnp.array([0, 1]))[0] for x in (vectors, 7 * vectors))
    assert np.abs(one - seven).max() > 0.1
    whole = np.concatenate([vectors[:, 0], vectors[:, 1], np.abs(vectors[:, 0] - vectors[:, 1])], axis=1) @ lin((9, 2))
    by_hand = np.log(np.exp(whole).sum(1)) - whole[[0, 1], [0, 1]]
    np.testing.assert_allclose(one, by_hand, rtol=1e-5)


@pytest.mark.parametrize("texts_per_row", [1, 2])
def test_the_texts_of_all_rows_go_through_the_encoder_in_one_pass(monkeypatch, texts_per_row):
    setting = tiny.sentences_setting(texts_per_row=texts_per_row)
    config = _config(classify_weight=float(texts_per_row == 2), projection_dim=8)
    objective = pair_supcon.make(config, setting)
    seen, apply_model = [], embedding.apply_model

    def watched(model, params, batch, rng=None):
        seen.append(batch["input_ids"].shape)
        return apply_model(model, params, batch, rng)

    monkeypatch.setattr(embedding, "apply_model", watched)

    def run(batch):
        return objective.loss(*unbox(objective.init(jax.random.key(0), batch)), batch, Step(jax.random.key(1)))[0]

    jax.eval_shape(run, tiny.batch(setting))  # 8 rows, texts of 8 tokens
    assert seen == [(16, 8)]


def test_what_the_rows_have_no_meaning_for_is_refused_before_training():
    setting = tiny.sentences_setting(texts_per_row=3)
    with pytest.raises(UserError, match=r"classifies pairs, and the train rows are triplets; set data\.layout='pairs'"):
        pair_supcon.make(_config(), setting)
    with pytest.raises(UserError, match="takes pairs, and the train rows are triplets"):
        pair_supcon.make(_config(classify_weight=0.0), setting)
    pairs = tiny.sentences_setting()
    alike = dataclasses.replace(pairs, rows=pairs.rows._replace(labels=0 * pairs.rows.labels))
    with pytest.raises(UserError, match="all train pairs have one label"):
        pair_supcon.make(_config(), alike)
    one_text = dataclasses.replace(pairs, rows=pairs.rows._replace(text_ids=0 * pairs.rows.text_ids))
    with pytest.raises(UserError, match=r"hold 1 different text.*at least three"):
        pair_supcon.make(_config(), one_text)
    pair_supcon.make(_config(instance_weight=0.0), one_text)
    for changes, told in (
        ({"instance": "hard"}, "one of orig, hard_negative, ranking"),
        ({"temperature": 0.0}, "temperature=0.0: expected a finite number, above 0"),
        ({"classify_weight": 0.0, "instance_weight": 0.0}, "are both 0"),
        ({"projection_dim": -1}, "projection_dim=-1: expected a whole number, 0 to"),
    ):
        with pytest.raises(UserError, match=told):
            pair_supcon.check(_config(**changes))
