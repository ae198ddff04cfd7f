"""What a distilled sentence encoder learns from: a re-derivation in numpy, hand numbers, limits, the queue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from codir_jax.losses import distillation
from codir_jax.objectives import codir, distill
from codir_jax.objectives.heads import embedding
from codir_jax.processes import fields
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny

HEAD = embedding.Embedding()
RANDOM = np.random.RandomState(0)
TEACHER, STUDENT = RANDOM.normal(size=(2, 5, 4)).astype(np.float32)


def _config(**changes):
    return ConfigDict({**fields.defaults(embedding.FIELDS), **changes})


def _batch(text_ids, num_real=None):
    num_real = len(text_ids) if num_real is None else num_real
    mask = (np.arange(len(text_ids)) < num_real).astype(np.float32)
    return {"text_ids": jnp.asarray(text_ids, jnp.int32), "example_mask": jnp.asarray(mask)}


def _terms(config, batch, student, teacher, memory=None):
    """(mean vector loss, mean similarity loss, metrics as means, memory)."""
    terms = jax.jit(lambda student, teacher, memory: HEAD.terms(config, batch, student, teacher, memory))
    found = terms(jnp.asarray(student), jnp.asarray(teacher), memory or {})
    means = {name: float(total / max(count, 1)) for name, (total, count) in found.metrics.items()}
    return means["vector_loss"], means["similarity_loss"], means, found.memory


def _unit(x):
    return np.asarray(x, np.float64) / np.linalg.norm(x, axis=-1, keepdims=True)


def _divergence(student, teacher, keys, tau):
    """KL of one anchor from probabilities, in float64."""
    p, q = (np.exp(keys @ anchor / tau) for anchor in (teacher, student))
    p, q = p / p.sum(), q / q.sum()
    return (p * np.log(p / q)).sum()


def test_the_similarity_loss_is_a_divergence_over_the_other_texts_of_the_batch():
    """Rows 1 and 3 are one text: neither is a key of the other. Row 4 is padding."""
    _, found, means, _ = _terms(_config(similarity_temperature=0.3), _batch([7, 2, 9, 2, -1], 4), STUDENT, TEACHER)
    keys, student = _unit(TEACHER), _unit(STUDENT)
    others = {0: [1, 2, 3], 1: [0, 2], 2: [0, 1, 3], 3: [0, 2]}
    by_hand = [_divergence(student[i], keys[i], keys[list(k)], 0.3) for i, k in others.items()]
    np.testing.assert_allclose(found, np.mean(by_hand), rtol=1e-5)
    np.testing.assert_allclose(means["num_keys"], np.mean([3, 2, 3, 2]))
    nearest = [np.argmax(keys[k] @ student[i]) == np.argmax(keys[k] @ keys[i]) for i, k in others.items()]
    assert means["nearest_agreement"] == np.mean(nearest)


def test_the_queue_keeps_the_teachers_vectors_of_earlier_batches_as_keys():
    config = _config(similarity_temperature=0.3, similarity_queue_size=6)
    memory = unbox(HEAD.memory(config, 4))
    earlier = RANDOM.normal(size=(5, 4)).astype(np.float32)
    _, _, means, memory = _terms(config, _batch([10, 11, 12, 13, 0]), earlier, earlier, memory)
    assert means["num_keys"] == 4  # nothing is in the queue yet
    _, found, means, memory = _terms(config, _batch([0, 1, 2, 3, 4]), STUDENT, TEACHER, memory)
    keys, student, old = _unit(TEACHER), _unit(STUDENT), _unit(earlier)
    by_hand = []
    for i in range(5):
        rows = [keys[j] for j in range(5) if j != i] + list(old[:4] if i == 0 else old)  # row 0 was there before
        by_hand.append(_divergence(student[i], keys[i], np.stack(rows), 0.3))
    np.testing.assert_allclose(found, np.mean(by_hand), rtol=1e-5)
    np.testing.assert_allclose(means["num_keys"], np.mean([8, 9, 9, 9, 9]))
    # Six rows: the oldest four of ten are gone.
    assert sorted(np.asarray(memory[embedding.QUEUE]["text_ids"]).tolist()) == [0, 0, 1, 2, 3, 4]


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    for vector_loss in embedding.VECTOR_LOSSES:
        vectors, similarity, means, _ = _terms(_config(vector_loss=vector_loss), _batch(range(5)), TEACHER, TEACHER)
        assert vectors < 1e-6 and similarity < 1e-6 and means["nearest_agreement"] == 1


def test_the_vector_losses_by_hand():
    student, teacher = [[3.0, 4.0], [0.0, 2.0]], [[5.0, 0.0], [0.0, 1.0]]
    batch = _batch([0, 1])
    # Cosines 3/5 and 1; squared distances (4 + 16) / 25 and 1 / 1.
    np.testing.assert_allclose(_terms(_config(), batch, student, teacher)[0], (0.4 + 0.0) / 2, atol=1e-6)
    l2 = _config(vector_loss="l2")
    np.testing.assert_allclose(_terms(l2, batch, student, teacher)[0], (0.8 + 1.0) / 2, rtol=1e-6)
    # The unit does not depend on the encoder's scale.
    scaled = [np.multiply(100.0, side) for side in (student, teacher)]
    np.testing.assert_allclose(_terms(l2, batch, *scaled)[0], 0.9, rtol=1e-6)
    assert float(distillation.relative_l2(jnp.ones((1, 2)), jnp.zeros((1, 2)))[0]) == 0


@pytest.mark.parametrize("text_ids", [[3], [3, 3]])
def test_without_another_text_loss_and_gradient_are_zero(text_ids):
    config, batch = _config(), _batch(text_ids)
    student, teacher = STUDENT[: len(text_ids)], TEACHER[: len(text_ids)]

    def loss(x):
        return HEAD.terms(config, batch, x, jnp.asarray(teacher), {}).soft[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(student))
    assert value == 0 and not np.any(gradient)


def test_a_far_key_at_a_low_temperature_leaves_the_gradient_finite():
    """exp(-2 / 0.005) is no float32."""
    config, batch = _config(similarity_temperature=0.005), _batch(range(3))
    teacher = jnp.asarray([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1e-3]])

    def loss(x):
        return HEAD.terms(config, batch, x, teacher, {}).soft[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("method", [distill, codir])
def test_what_cannot_be_distilled_is_refused_before_training(method):
    def config(**changes):
        made = method.default_config("encoder") if method is codir else method.default_config()
        made.update(changes)
        return made

    single = tiny.sentences_setting(texts_per_row=1)
    with pytest.raises(UserError, match=r"2 texts each.*data\.layout='sentences'"):
        method.make(config(), tiny.sentences_setting())
    for changes, told in (
        ({"vector_loss": "mse"}, r"vector_loss='mse': expected one of cosine, l2"),
        ({"similarity_temperature": 0.0}, "similarity_temperature=0.0: expected a finite number, above 0"),
        ({"similarity_queue_size": -1}, "similarity_queue_size=-1: expected a whole number, 0 to"),
    ):
        with pytest.raises(UserError, match=told):
            method.make(config(**changes), single)
    wide = tiny.sentences_setting(texts_per_row=1, teacher_width=32)
    with pytest.raises(UserError, match=r"16 numbers, the teacher's 32"):
        HEAD.check_pair(wide.student, wide.teacher)
