"""Bank and queue: golden row, duplicates, padding, untouched rows, first in first out, no gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.negatives import memory_bank
from tests.negatives.structure import largest_made

BANK = memory_bank.init_bank(jax.random.key(0), 10, 4)
VALUES = np.random.RandomState(0).normal(size=(3, 4)).astype(np.float32)
VALUES /= np.linalg.norm(VALUES, axis=1, keepdims=True)

# Compiled once: op by op, each of these costs seconds of compilation.
lookup, update, push = (jax.jit(f) for f in (memory_bank.lookup, memory_bank.update, memory_bank.push))


def mixed(row, value, momentum):
    row = momentum * np.asarray(row, np.float64) + (1 - momentum) * value.astype(np.float64)
    return row / np.linalg.norm(row)


@pytest.mark.parametrize(
    ("num_rows", "padded"),
    [(10, 1024), (1024, 1024), (8551, 9216), (10**6, 31 * 2**15), (10**9, 15259 * 2**16)],
)
def test_rows_are_padded_by_a_sixteenth_at_most_to_what_devices_share_evenly(num_rows, padded):
    assert memory_bank.padded_rows(num_rows) == padded


def test_init_bank_is_uniform_with_unit_mean_square_length():
    bank = np.asarray(memory_bank.init_bank(jax.random.key(1), 4000, 128))
    bound = np.sqrt(3 / 128)
    assert bank.dtype == np.float32 and np.abs(bank).max() <= bound and np.abs(bank).max() > 0.999 * bound
    np.testing.assert_allclose((bank**2).sum(1).mean(), 1.0, rtol=5e-3)
    np.testing.assert_allclose(bank.mean(), 0.0, atol=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_update_equals_numpy_and_leaves_other_rows_bit_equal(momentum):
    ids = jnp.asarray([7, 0, 3])
    new = np.asarray(update(BANK, ids, VALUES, momentum))
    for row, value in zip([7, 0, 3], VALUES, strict=True):
        np.testing.assert_allclose(new[row], mixed(BANK[row], value, momentum), atol=1e-6)
    rest = [1, 2, 4, 5, 6, 8, 9]
    assert new[rest].tobytes() == np.asarray(BANK)[rest].tobytes()


def test_update_with_momentum_one_only_normalises():
    new = update(BANK, jnp.asarray([7, 0, 3]), VALUES, 1.0)
    np.testing.assert_allclose(new[7], BANK[7] / np.linalg.norm(BANK[7]), atol=1e-6)


def test_the_last_of_duplicate_ids_wins():
    many = np.random.RandomState(1).normal(size=(64, 4)).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    ids = np.random.RandomState(2).randint(0, 5, 64)
    new = np.asarray(update(BANK, jnp.asarray(ids), many, 0.5))
    for row in range(5):
        last = np.flatnonzero(ids == row)[-1]
        np.testing.assert_allclose(new[row], mixed(BANK[row], many[last], 0.5), atol=1e-6)
    assert new[5:].tobytes() == np.asarray(BANK)[5:].tobytes()


def test_write_targets_are_distinct_so_that_no_scatter_order_matters():
    got = memory_bank._write_targets(jnp.asarray([3, 10, 3, -1, 0, 10, 3]), 10)
    np.testing.assert_array_equal(got, [10, 11, 12, 13, 0, 15, 3])


def _write_targets_of_all_pairs(ids, num_rows):
    """The definition: a row is dropped if its id is outside, or if any later row has the same id."""
    order = np.arange(len(ids))
    has_later = ((ids[:, None] == ids) & (order > order[:, None])).any(axis=1)
    return np.where(has_later | (ids < 0) | (ids >= num_rows), num_rows + order, ids)


@pytest.mark.parametrize("batch_size", [1, 2, 33, 500])
@pytest.mark.parametrize("largest", [1, 20, 2000])
def test_write_targets_are_those_of_a_comparison_of_all_pairs(batch_size, largest):
    random, write_targets = np.random.RandomState(batch_size), jax.jit(memory_bank._write_targets, static_argnums=1)
    for _ in range(5):
        ids = random.randint(-2, largest + 3, batch_size).astype(np.int32)
        ids[random.uniform(size=batch_size) < 0.2] = np.iinfo(np.int32).max  # padded rows
        np.testing.assert_array_equal(write_targets(ids, largest), _write_targets_of_all_pairs(ids, largest))


def test_an_update_makes_no_array_of_all_pairs_of_the_batch():
    batch_size = 1031
    bank, ids = jax.ShapeDtypeStruct((512, 4), jnp.float32), jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    values = jax.ShapeDtypeStruct((batch_size, 4), jnp.float32)
    compiled = jax.jit(memory_bank.update, static_argnums=3).lower(bank, ids, values, 0.5).compile()
    assert largest_made(compiled) < 8 * batch_size


def test_padded_and_negative_ids_are_dropped():
    new = update(BANK, jnp.asarray([10, -1, 10]), VALUES, 0.5)
    assert np.asarray(new).tobytes() == np.asarray(BANK).tobytes()


def test_update_of_a_row_that_cancels_to_zero_stays_finite():
    new = update(jnp.asarray([[-1.0, 0.0]]), jnp.asarray([0]), jnp.asarray([[1.0, 0.0]]), 0.5)
    np.testing.assert_array_equal(new, [[0.0, 0.0]])


def test_lookup_reads_rows_and_the_last_row_outside():
    got = lookup(BANK, jnp.asarray([[2, 10], [-1, 9]]))
    np.testing.assert_array_equal(got[0, 0], BANK[2])
    np.testing.assert_array_equal(got[1, 1], BANK[9])
    np.testing.assert_array_equal(got[0, 1], BANK[9])
    np.testing.assert_array_equal(got[1, 0], BANK[9])


def test_row_scores_equal_numpy():
    rows = np.random.RandomState(3).normal(size=(3, 5, 4)).astype(np.float32)
    expected = (rows * VALUES[:, None]).sum(-1)
    np.testing.assert_allclose(memory_bank.row_scores(VALUES, rows), expected, rtol=1e-5, atol=1e-6)


def test_state_carries_no_gradient():
    ids = jnp.asarray([1, 2, 3])
    assert not np.any(jax.jit(jax.grad(lambda b: lookup(b, ids).sum()))(BANK))
    assert not np.any(jax.jit(jax.grad(lambda v: update(BANK, ids, v, 0.5).sum()))(jnp.asarray(VALUES)))
    queue = memory_bank.init_queue(4, 4)
    gradient = jax.jit(jax.grad(lambda v: push(queue, v, ids, ids, jnp.ones(3))["rows"].sum()))
    assert not np.any(gradient(jnp.asarray(VALUES)))


def test_queue_is_first_in_first_out_over_many_batches_with_masked_rows():
    """Against a Python list that keeps the last `size` real rows."""
    random, size = np.random.RandomState(0), 7
    queue, kept = memory_bank.init_queue(size, 2), []
    for step in range(12):
        ids = (100 * step + np.arange(5)).astype(np.int32)
        mask = (random.uniform(size=5) < 0.6).astype(np.float32)
        rows = np.stack([ids, -ids], 1).astype(np.float32)
        queue = push(queue, rows, ids % 3, ids, mask)
        kept = (kept + ids[mask > 0].tolist())[-size:]
        valid = np.asarray(queue["is_valid"])
        assert sorted(np.asarray(queue["text_ids"])[valid].tolist()) == kept
        # In order of age, oldest first, from the head on.
        order = (int(queue["head"]) + np.arange(size)) % size
        order = order[valid[order]]
        assert np.asarray(queue["text_ids"])[order].tolist() == kept
        np.testing.assert_array_equal(np.asarray(queue["rows"])[order][:, 0], kept)
        np.testing.assert_array_equal(np.asarray(queue["labels"])[order], np.array(kept) % 3)
    assert valid.all()


def test_a_batch_larger_than_the_queue_leaves_its_last_rows():
    ids = jnp.arange(10)
    rows = jnp.tile(ids[:, None], (1, 2))
    mask = jnp.ones(10).at[9].set(0)
    queue = push(memory_bank.init_queue(4, 2), rows, ids, ids, mask)
    assert sorted(np.asarray(queue["text_ids"]).tolist()) == [5, 6, 7, 8]
    nothing = push(queue, rows, ids, ids, jnp.zeros(10))
    for name in queue:
        np.testing.assert_array_equal(nothing[name], queue[name])
