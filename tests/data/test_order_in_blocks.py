"""The order of an epoch: as it always was for what fits in a block, and made block by block for more."""

import hashlib

import numpy as np
import pytest

from codir_jax.data import epoch_order, shuffle

# (examples, batch_size, window, seed, epoch) -> first rows, digest of all; of the program before there were blocks.
GOLDEN = {
    (10, 4, 1, 3, 0): ([9, 6, 0, 2, 1, 4, 7, 5, 3, 8, -1, -1], "192f540a92aa08f2"),
    (21, 4, 2, 3, 1): ([5, 2, 7, 12, 0, 10, 17, 4, 14, 16, 3, 13], "ac17a3ce77ee7ff2"),
    (1000, 32, 32, 0, 0): ([926, 865, 194, 987, 560, 133, 438, 621, 255, 316, 72, 804], "73574b26e6ed6c91"),
    (1000, 32, 4, 7, 2): ([441, 807, 596, 80, 263, 479, 662, 601, 268, 85, 878, 817], "6523b0ab96cee470"),
    (1000, 32, 1, 7, 2): ([917, 74, 383, 401, 549, 586, 636, 192, 301, 411, 637, 589], "fcdd7c0a2be82cb7"),
}


def lengths_of(count):
    return (np.arange(count) * 37 % 61 + 3).astype(np.int32)


@pytest.mark.parametrize("case", GOLDEN, ids=str)
def test_an_epoch_of_one_block_is_what_it_always_was(case):
    count, batch_size, window, seed, epoch = case
    rows = epoch_order.epoch_batches(lengths_of(count), batch_size, seed=seed, epoch=epoch, window=window)
    first, digest = GOLDEN[case]
    assert rows.ravel()[:12].tolist() == first
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16] == digest


class Watched:
    """Lengths that remember how many were asked for at a time."""

    def __init__(self, lengths):
        self.lengths, self.most = lengths, 0

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, rows):
        found = self.lengths[rows]
        self.most = max(self.most, found.size)
        return found


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(epoch_order, "SHUFFLED_WHOLE", 64)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("count", [65, 1000])
def test_the_blocks_of_an_epoch_have_every_example_once_and_look_at_one_block_only(small_blocks, count, window):
    lengths, size = Watched(lengths_of(count)), epoch_order.block_size(count, 8, window)
    assert size <= 64 and size % (8 * window) == 0
    for epoch in range(2):
        blocks = [
            epoch_order.epoch_batches(lengths, 8, seed=1, epoch=epoch, window=window, block=block)
            for block in range(-(-count // size))
        ]
        rows = np.concatenate(blocks)
        assert sorted(rows[rows >= 0].tolist()) == list(range(count))
        assert (rows < 0).sum() == -count % 8 and ((rows < 0).any(axis=1)).sum() == (count % 8 > 0)
    assert lengths.most <= size


def test_steps_run_through_the_blocks_and_may_begin_anywhere(small_blocks):
    order = epoch_order.Order(lengths_of(300), 8, seed=1, window=2)
    steps = [order.rows(step) for step in range(80)]
    for epoch in (0, 1):
        rows = np.concatenate(steps[38 * epoch : 38 * (epoch + 1)])
        assert sorted(rows[rows >= 0].tolist()) == list(range(300))
    assert (steps[0] != steps[38]).any()
    for step in (79, 3, 37, 38, 11):
        np.testing.assert_array_equal(epoch_order.Order(lengths_of(300), 8, seed=1, window=2).rows(step), steps[step])


@pytest.mark.parametrize("count", [1, 2, 3, 17, 256, 257, 5000])
def test_a_computed_order_has_everything_once(count):
    order = shuffle.permuted(np.arange(count), count, 1, 2)
    assert sorted(order.tolist()) == list(range(count))
    assert shuffle.permuted(np.array([count - 1]), count, 1, 2).tolist() == [order[-1]]


def test_a_computed_order_looks_random():
    count = 2000
    orders = np.stack([shuffle.permuted(np.arange(count), count, 7, key) for key in range(300)])
    # Each place has values of mean (count - 1) / 2 over the keys; neighbours and keys do not go together.
    means = (orders.mean(axis=0) - (count - 1) / 2) / (count / 12**0.5 / 300**0.5)
    assert 0.9 < means.std() < 1.1 and np.abs(means).max() < 5
    assert abs(np.corrcoef(orders[:, :-1].ravel(), orders[:, 1:].ravel())[0, 1]) < 0.005
    assert abs(np.corrcoef(orders[0], orders[1])[0, 1]) < 0.1


def test_a_draw_is_within_a_larger_one_of_the_same_seed(monkeypatch):
    assert shuffle.drawn(10, 4, 3).tolist() == sorted(np.random.default_rng(3).permutation(10)[:4].tolist())
    monkeypatch.setattr(shuffle, "SHUFFLED_WHOLE", 5)
    draws = [set(shuffle.drawn(1000, num, 3).tolist()) for num in (10, 11, 400)]
    assert draws[0] < draws[1] < draws[2] and [len(draw) for draw in draws] == [10, 11, 400]
    assert draws[0] != set(shuffle.drawn(1000, 10, 4).tolist())
