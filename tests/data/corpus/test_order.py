"""The rows of a step: each once a pass, weights, neighbours together, the same from any step and in any part."""

import numpy as np
import pytest

from codir_jax.data.corpus.order import order_of


def epoch(order, number):
    first = number * order.steps_per_epoch
    return [order.rows(step) for step in range(first, first + order.steps_per_epoch)]


def flat(batches):
    rows = np.concatenate([rows for rows, _ in batches])
    return rows[rows >= 0]


@pytest.mark.parametrize(
    ("count", "batch_size", "unit_size"), [(23, 4, 1), (23, 4, 2), (24, 8, 4), (3, 8, 4), (1, 2, 1)]
)
def test_an_epoch_has_each_row_once_and_the_next_another_order(count, batch_size, unit_size):
    order = order_of([0, count], [1.0], batch_size=batch_size, unit_size=unit_size, seed=3)
    for number in range(3):
        assert sorted(flat(epoch(order, number)).tolist()) == list(range(count))
        assert {int(n) for rows, passes in epoch(order, number) for n in passes[rows >= 0]} == {number}
    if count > 4:
        assert flat(epoch(order, 0)).tolist() != flat(epoch(order, 1)).tolist()


def test_seeds_do_not_share_orders_shifted_by_an_epoch():
    orders = [order_of([0, 40], [1.0], batch_size=8, unit_size=1, seed=seed) for seed in range(3)]
    seen = {tuple(flat(epoch(order, number))) for order in orders for number in range(3)}
    assert len(seen) == 9


def test_a_source_of_weight_two_comes_twice_and_of_half_every_second_epoch():
    order = order_of([0, 10, 30, 50], [2.0, 1.0, 0.5], batch_size=4, unit_size=1, seed=0)
    assert order.steps_per_epoch == 50 // 4 + 1
    two = np.bincount(np.concatenate([flat(epoch(order, 0)), flat(epoch(order, 1))]), minlength=50)
    assert two[:10].tolist() == [4] * 10 and two[10:30].tolist() == [2] * 20 and two[30:].tolist() == [1] * 20
    passes = {int(n) for rows, passes in epoch(order, 1) for n in passes[(rows >= 0) & (rows < 10)]}
    assert passes == {2, 3}  # new masks at each pass


def test_sources_are_mixed_over_the_epoch():
    order = order_of([0, 500, 1000], [1.0, 1.0], batch_size=20, unit_size=1, seed=1)
    share = np.asarray([np.mean(rows < 500) for rows, _ in epoch(order, 0)])
    assert abs(share.mean() - 0.5) < 1e-9 and 0.05 < share.std() < 0.16  # of 20 coin throws: 0.11


def test_neighbours_come_together_and_every_pair_meets():
    order = order_of([0, 12], [1.0], batch_size=6, unit_size=2, seed=0)
    pairs = set()
    for number in range(12):
        for rows, _ in epoch(order, number):
            for first, second in rows.reshape(-1, 2).tolist():
                assert second == (first + 1) % 12
                pairs.add(first)
    assert pairs == set(range(12))


def test_a_part_is_the_part_of_the_whole():
    order = order_of([0, 37, 60], [1.0, 2.0], batch_size=12, unit_size=3, seed=5)
    for step in (0, 3, order.steps_per_epoch - 1, order.steps_per_epoch):
        rows, passes = order.rows(step)
        for part in (slice(0, 6), slice(6, 12), slice(4, 8)):
            np.testing.assert_array_equal(order.rows(step, part)[0], rows[part])
            np.testing.assert_array_equal(order.rows(step, part)[1], passes[part])


def test_the_order_of_a_seed_is_that_of_every_version():
    """A run that is resumed after an upgrade goes on with the same data."""
    order = order_of([0, 9], [1.0], batch_size=3, unit_size=1, seed=0)
    assert [order.rows(step)[0].tolist() for step in range(3)] == [[0, 4, 1], [3, 2, 8], [6, 5, 7]]
