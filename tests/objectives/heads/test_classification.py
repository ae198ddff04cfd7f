"""A regression in two units: those of a step, and those of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models.apply import apply_model
from codir_jax.models.heads import build_model, init_params
from codir_jax.objectives import distill
from codir_jax.objectives.heads.classification import Classification
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny

HEAD = Classification(1, True, mean=100.0, scale=5.0)


@pytest.fixture(scope="module")
def model():
    """(module, weights, batch of three texts)."""
    module = build_model(tiny.sizes(1), "classification", 1)
    ids = jnp.asarray(np.random.default_rng(0).integers(3, 40, (3, 6)), jnp.int32)
    batch = {"input_ids": ids, "attention_mask": jnp.ones_like(ids), "token_type_ids": jnp.zeros_like(ids)}
    return module, unbox(init_params(module, jax.random.key(0))), batch


def test_a_served_model_answers_in_the_units_of_the_data(model):
    module, params, batch = model
    inside = apply_model(module, params, batch).logits
    outside = apply_model(module, HEAD.as_served(params), batch).logits
    np.testing.assert_allclose(outside, 100 + 5 * inside, rtol=1e-6)
    again = apply_model(module, HEAD.in_training(HEAD.as_served(params)), batch).logits
    np.testing.assert_allclose(again, inside, atol=1e-5)
    assert HEAD.as_served(params)["encoder"] is params["encoder"]


def test_targets_and_the_teachers_answers_are_standardised():
    """By hand: (110 - 100) / 5 = 2 and (95 - 100) / 5 = -1."""
    targets = jnp.asarray([110.0, 95.0, 0.0])
    batch = {"labels": targets, "label_mask": jnp.asarray([1.0, 1.0, 0.0]), "example_mask": jnp.ones(3)}
    student, teacher = jnp.asarray([[2.0], [0.0], [-1.0]]), jnp.asarray([[110.0], [100.0], [90.0]])
    terms = HEAD.terms(distill.default_config(), batch, student, teacher)
    assert [float(x) for x in terms.task] == pytest.approx([1.0, 2.0])
    assert [float(x) for x in terms.soft] == pytest.approx([1.0, 3.0])  # -1 against -2


def test_classes_have_no_units(model):
    _, params, _ = model
    assert Classification(3).as_served(params) is params


def test_examples_count_as_the_weight_of_their_class_says():
    """By hand: logits of 0 cost ln 2 each, the third row has no label."""
    head = Classification(2, class_weights=(0.5, 3.0))
    batch = {"labels": jnp.asarray([0, 1, 1]), "label_mask": jnp.asarray([1.0, 1.0, 0.0])}
    total, count = head.terms(None, batch, jnp.zeros((3, 2))).task
    assert float(total) == pytest.approx(3.5 * np.log(2), rel=1e-6) and float(count) == 2


def test_of_several_classes_a_yes_counts_as_its_weight_says_and_models_agree_on_all_classes():
    """By hand: at logits of 0 each answer costs ln 2; of three rows the last has no label."""
    head = Classification(2, class_weights=(3.0, 1.0), is_multi_label=True)
    batch = {"labels": jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), "label_mask": jnp.asarray([1.0, 1.0, 0.0])}
    batch["example_mask"] = jnp.ones(3)
    teacher = jnp.asarray([[-1.0, -1.0], [1.0, -1.0], [0.0, 0.0]])
    terms = head.terms(distill.default_config(), batch, jnp.zeros((3, 2)), teacher)
    total, count = terms.task
    assert float(total) == pytest.approx((4 + 2) / 2 * np.log(2), rel=1e-6) and float(count) == 2
    assert [float(x) for x in terms.metrics["teacher_agreement"]] == [2.0, 3.0]
    assert float(terms.soft[0]) > 0 and head.as_served(batch) is batch
