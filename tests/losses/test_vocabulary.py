"""Losses over a vocabulary in chunks: hand numbers, float64, the plain formula's gradients, limits, a mesh, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from codir_jax.losses.distillation import soft_target_loss
from codir_jax.losses.vocabulary import Decoder, num_chunks, vocabulary_terms

SHAPE = (8, 3)  # examples, masked positions
VOCAB = 44
# At once; 2 of 22; 4 of 11; 5 of 9, one word of which is padding.
CHUNK_SIZES = (0, 22, 16, 9)


def decoder(seed, width, scale=1.0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (scale * rng.normal(size=shape)).astype(np.float32)  # noqa: E731
    return Decoder(draw(*SHAPE, width), draw(VOCAB, width), draw(VOCAB))


STUDENT, TEACHER = decoder(0, 4), decoder(1, 6)
LABELS = np.random.default_rng(2).integers(0, VOCAB, SHAPE).astype(np.int32)
WEIGHTS = np.random.default_rng(3).random((2, *SHAPE)).astype(np.float32)


def weighted(terms):
    """A scalar in which every position of both losses has another weight."""
    return jnp.sum(WEIGHTS[0] * terms.cross_entropy) + jnp.sum(WEIGHTS[1] * terms.soft_target)


@functools.cache
def chunked(chunk_size):
    """Jitted (student, teacher) -> ((scalar, terms), gradients of both)."""

    def loss(student, teacher):
        terms = vocabulary_terms(student, LABELS, teacher, temperature=2.0, chunk_size=chunk_size)
        return weighted(terms), terms

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


@functools.cache
def plain():
    """Gradient of the same scalar by the plain formula, with both tables of logits."""

    def loss(student):
        logits, targets = (side.states @ side.table.T + side.bias for side in (student, TEACHER))
        own = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
        return jnp.sum(WEIGHTS[0] * own) + jnp.sum(WEIGHTS[1] * soft_target_loss(logits, targets, 2.0))

    return jax.jit(jax.grad(loss))(STUDENT)


def test_by_hand():
    # Student 3/5, 1/5, 1/5, teacher 1/3 each, label 0: ln(5/3), and (ln(5/9) + 2 ln(5/3)) / 3 at T = 1.
    student = Decoder(jnp.ones((1, 1)), jnp.log(jnp.asarray([[3.0], [1.0], [1.0]])), jnp.zeros(3))
    teacher = Decoder(jnp.zeros((1, 2)), jnp.zeros((3, 2)), jnp.zeros(3))
    terms = vocabulary_terms(student, jnp.zeros(1, jnp.int32), teacher, chunk_size=2)
    np.testing.assert_allclose(terms.cross_entropy, [0.5108256], rtol=1e-6)
    np.testing.assert_allclose(terms.soft_target, [0.1446215], rtol=1e-5)
    assert float(terms.is_correct[0]) == float(terms.agrees[0]) == 1  # of the teacher's equal words the first


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_values_equal_the_formula_in_float64(chunk_size):
    (_, terms), _ = chunked(chunk_size)(STUDENT, TEACHER)
    student, teacher = (
        side.states.astype(np.float64) @ side.table.T.astype(np.float64) + side.bias for side in (STUDENT, TEACHER)
    )
    shares = lambda z, t: np.exp(z / t) / np.exp(z / t).sum(-1, keepdims=True)  # noqa: E731
    p, q = shares(teacher, 2.0), shares(student, 2.0)
    expected = -np.log(np.take_along_axis(shares(student, 1.0), LABELS[..., None], -1))[..., 0]
    np.testing.assert_allclose(terms.cross_entropy, expected, rtol=1e-5)
    np.testing.assert_allclose(terms.soft_target, 4 * (p * np.log(p / q)).sum(-1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(terms.is_correct, student.argmax(-1) == LABELS)
    np.testing.assert_array_equal(terms.agrees, student.argmax(-1) == teacher.argmax(-1))


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_gradients_equal_those_of_the_plain_formula_and_the_teacher_has_none(chunk_size):
    _, (of_student, of_teacher) = chunked(chunk_size)(STUDENT, TEACHER)
    for ours, theirs in zip(of_student, plain(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    assert all(not np.any(leaf) for leaf in of_teacher)


def test_without_a_teacher_the_cross_entropy_is_the_same():
    terms = jax.jit(functools.partial(vocabulary_terms, chunk_size=22))(STUDENT, LABELS)
    (_, expected), _ = chunked(22)(STUDENT, TEACHER)
    np.testing.assert_allclose(terms.cross_entropy, expected.cross_entropy, rtol=1e-6)
    np.testing.assert_array_equal(terms.is_correct, expected.is_correct)
    assert terms.soft_target is terms.agrees is None


def test_a_student_that_is_its_teacher_has_no_soft_target_loss_and_no_gradient_of_it():
    def loss(student):
        terms = vocabulary_terms(student, LABELS, STUDENT, temperature=2.0, chunk_size=16)
        return terms.soft_target.sum(), terms

    (_, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(STUDENT)
    np.testing.assert_allclose(terms.soft_target, 0, atol=1e-5)
    assert all(np.abs(leaf).max() < 1e-5 for leaf in gradient)
    assert terms.agrees.all()


def test_logits_of_thousands_give_finite_losses_and_gradients():
    large = [Decoder(1e3 * side.states, side.table, side.bias) for side in (STUDENT, TEACHER)]
    (value, terms), gradients = chunked(9)(*large)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((terms, gradients)))


def test_logits_of_bfloat16_states_are_not_rounded_to_bfloat16():
    """Near 16 it tells numbers apart by 0.125 only."""
    states, table, bias = decoder(4, 16, scale=2.0)
    rounded = jnp.asarray(states, jnp.bfloat16)
    halves = jnp.asarray(table, jnp.bfloat16).astype(jnp.float32)  # the table is read in the dtype of the states
    found = vocabulary_terms(Decoder(rounded, table, bias), LABELS, chunk_size=16).cross_entropy
    exact = vocabulary_terms(Decoder(rounded.astype(jnp.float32), halves, bias), LABELS).cross_entropy
    assert float(exact.max()) > 8
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)


def test_of_equal_words_in_different_chunks_the_first_is_the_choice():
    bias = np.array([0, 2, 1, 3, 0, 3, 3, 1, 3, 0], np.float32)
    words = Decoder(np.zeros((10, 1), np.float32), np.zeros((10, 1), np.float32), bias)
    terms = jax.jit(functools.partial(vocabulary_terms, chunk_size=4))(words, np.arange(10, dtype=np.int32))
    np.testing.assert_array_equal(np.flatnonzero(terms.is_correct), [3])


@pytest.mark.parametrize("chunk_size", [22, 9])
def test_a_mesh_that_splits_rows_and_vocabulary_gives_what_one_device_gives(chunk_size):
    mesh = jax.make_mesh((4, 2), ("rows", "words"), axis_types=(AxisType.Auto,) * 2)
    put = lambda x, *axes: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))  # noqa: E731
    split = [Decoder(put(s.states, "rows"), put(s.table, "words"), put(s.bias, "words")) for s in (STUDENT, TEACHER)]
    whole, parts = chunked(chunk_size)(STUDENT, TEACHER), chunked(chunk_size)(*split)
    for ours, theirs in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_vocabulary_is_cut_into_equal_chunks_where_it_can_be():
    cuts = {(30522, 10240): 3, (30522, 8192): 6, (50265, 8192): 9, (44, 9): 5, (44, 44): 1, (44, 100): 1, (44, 0): 1}
    assert {key: num_chunks(*key) for key in cuts} == cuts


def test_no_table_of_all_logits_ever_exists():
    positions, words, width = 256, 8192, 8
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)  # noqa: E731
    side = Decoder(shape(positions, width), shape(words, width), shape(words))

    def loss(student, teacher, labels):
        terms = vocabulary_terms(student, labels, teacher, temperature=2.0, chunk_size=512)
        return jnp.sum(terms.cross_entropy + terms.soft_target)

    labels = jax.ShapeDtypeStruct((positions,), jnp.int32)
    memory = jax.jit(jax.grad(loss)).lower(side, side, labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < positions * words * 4


def test_two_vocabularies_are_refused():
    other = Decoder(TEACHER.states, TEACHER.table[:-1], TEACHER.bias[:-1])
    with pytest.raises(ValueError, match="share one vocabulary"):
        vocabulary_terms(STUDENT, LABELS, other)
