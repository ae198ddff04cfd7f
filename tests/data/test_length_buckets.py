"""Padded lengths: the best of all choices, by trying them all; limits; refusals."""

import itertools

import numpy as np
import pytest

from codir_jax.data import length_buckets, pipeline
from codir_jax.data.splits import Examples


def _positions(longest, buckets):
    return sum(min(bucket for bucket in buckets if bucket >= length) for length in longest)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_buckets", [1, 2, 3, 4])
def test_no_other_choice_pads_less(seed, num_buckets):
    rng = np.random.default_rng(seed)
    longest = rng.choice(30, size=40, p=rng.dirichlet(np.full(30, 0.3))) + 1
    chosen = length_buckets.choose(longest, num_buckets, last=30)
    candidates = range(length_buckets.STEP, 30, length_buckets.STEP)
    fewest = min(
        _positions(longest, (*others, 30))
        for size in range(num_buckets)
        for others in itertools.combinations(candidates, size)
    )
    assert _positions(longest, chosen) == fewest
    assert len(chosen) <= num_buckets and chosen[-1] == 30 and list(chosen) == sorted(set(chosen))


def test_by_hand():
    """Ten batches of 7 tokens, one of 20: 8 and 20 pad 100 positions, any other pair more."""
    assert length_buckets.choose(np.array([7] * 10 + [20]), 2, last=20) == (8, 20)


def test_a_short_epoch_has_few_lengths():
    """Each is compiled: 2,000 texts in batches of 32 are 63 batches."""
    assert [length_buckets.worthwhile(8, n) for n in (1, 31, 32, 63, 128, 10_000)] == [1, 1, 2, 3, 8, 8]
    assert length_buckets.worthwhile(2, 10_000) == 2


def test_buckets_that_save_nothing_are_left_out():
    assert length_buckets.choose(np.array([8, 8, 16]), 8, last=16) == (8, 16)


def test_the_last_bucket_is_a_multiple_of_four_or_the_maximal_length():
    assert [length_buckets.round_up(n, 18) for n in (1, 13, 16, 17, 18)] == [4, 16, 16, 18, 18]


def test_no_bucket_is_refused_and_a_text_that_fits_none_is_named():
    with pytest.raises(ValueError, match="num_length_buckets must be >= 1"):
        length_buckets.choose(np.array([3]), 0, last=8)
    with pytest.raises(ValueError, match="9 tokens and the largest bucket is 8"):
        length_buckets.bucket_length(9, (4, 8))


def _examples(lengths):
    num = len(lengths)
    zeros = np.zeros(sum(lengths), np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Examples(zeros, zeros.astype(np.int8), offsets, np.zeros(num, np.int32), np.ones(num, bool), np.arange(num))


def test_every_split_fits_and_the_train_batches_decide():
    splits = {"train": _examples([5] * 40 + [11] * 8), "dev": _examples([30])}
    settings = {"max_length": 64, "batch_size": 8, "window": 6}
    assert pipeline.choose_length_buckets(splits, num_buckets=3, **settings) == (8, 12, 32)
    assert pipeline.choose_length_buckets(splits, num_buckets=1, **settings) == (32,)
    assert pipeline.choose_length_buckets({"dev": splits["dev"]}, num_buckets=3, **settings) == (32,)
