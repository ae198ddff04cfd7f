"""Repeats and members: those that Python finds, in rows of any kind, without an array of all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.negatives import repeats
from tests.negatives.structure import largest_made

is_repeat, is_among = jax.jit(repeats.is_repeat), jax.jit(repeats.is_among)
LIMITS = np.iinfo(np.int32)


@pytest.mark.parametrize(("shape", "num_values"), [((1,), 1), ((20,), 12), ((5, 20), 12), ((2, 3, 40), 200)])
def test_repeats_of_one_row_and_of_many_are_those_that_python_finds(shape, num_values):
    values = np.random.RandomState(0).randint(0, num_values, shape).astype(np.int32)
    rows = values.reshape(-1, shape[-1]).tolist()
    expected = [[v in row[:i] for i, v in enumerate(row)] for row in rows]
    np.testing.assert_array_equal(is_repeat(values), np.reshape(expected, shape))


def test_the_smallest_and_the_largest_integer_are_values_like_others():
    values = np.array([LIMITS.max, LIMITS.min, -1, LIMITS.max, 0, LIMITS.min, -1, 7], np.int32)
    np.testing.assert_array_equal(is_repeat(values), [0, 0, 0, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(is_repeat(np.zeros(4, np.int32)), [0, 1, 1, 1])
    np.testing.assert_array_equal(is_among(values, np.array([LIMITS.max, 7], np.int32)), [1, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(is_among(values, np.array([LIMITS.min], np.int32)), [0, 1, 0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("shape", [(50,), (6, 50)])
@pytest.mark.parametrize("num_others", [1, 2, 33])
def test_members_are_those_that_numpy_finds(shape, num_others):
    random = np.random.RandomState(num_others)
    values = random.randint(0, 60, shape).astype(np.int32)
    others = random.randint(0, 60, num_others).astype(np.int32)
    np.testing.assert_array_equal(is_among(values, others), np.isin(values, others))


def test_neither_compares_all_pairs():
    row, rows = jax.ShapeDtypeStruct((1031,), jnp.int32), jax.ShapeDtypeStruct((3, 1031), jnp.int32)
    for values in (row, rows):
        assert largest_made(is_repeat.lower(values).compile()) <= 2 * values.size
        assert largest_made(is_among.lower(values, row).compile()) <= 2 * values.size
