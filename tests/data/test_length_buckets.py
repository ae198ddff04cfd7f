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


def test_a_length_that_saves_less_than_it_costs_is_left_out():
    """8, 12 and 20 pad the batches to 60 tokens of a row, 12 and 20 to 68, 20 alone to 100."""
    longest = np.array([7, 7, 11, 11, 20])
    chosen = [length_buckets.choose(longest, 8, 20, each) for each in (0, 7.9, 8.1, 31.9, 32.1, 1e9)]
    assert chosen == [(8, 12, 20), (8, 12, 20), (12, 20), (12, 20), (20,), (20,)]


def test_the_cheapest_number_of_lengths_is_that_of_all_choices():
    longest = np.random.default_rng(0).choice(60, size=80, p=np.random.default_rng(1).dirichlet(np.full(60, 0.4))) + 1
    for each in (0.0, 3.0, 30.0, 300.0):
        best = length_buckets.choose(longest, 6, 60, each)
        costs = [
            _positions(longest, chosen) + each * len(chosen)
            for chosen in (length_buckets.choose(longest, num, 60) for num in range(1, 7))
        ]
        assert _positions(longest, best) + each * len(best) == min(costs)


def test_few_texts_have_few_lengths_and_a_longer_run_has_more():
    """A batch of 32 texts of 8 tokens and one of 64: the second length saves 56 x 32 positions every second step."""
    splits = {"train": _examples([8] * 32 + [64] * 32)}
    settings = {"num_buckets": 8, "max_length": 64, "batch_size": 32, "window": 2}
    lengths = [
        pipeline.choose_length_buckets(splits, **settings, num_steps=steps, compilation=length_buckets.compilation(on))
        for steps, on in ((4, "cpu"), (16, "cpu"), (16, "gpu"), (16, "tpu"), (8000, "gpu"))
    ]
    assert lengths == [(64,), (8, 64), (64,), (64,), (8, 64)]


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
    settings = {"max_length": 64, "batch_size": 8, "window": 6, "num_steps": 6, "compilation": 0}
    assert pipeline.choose_length_buckets(splits, num_buckets=3, **settings) == (8, 12, 32)
    assert pipeline.choose_length_buckets(splits, num_buckets=1, **settings) == (32,)
    assert pipeline.choose_length_buckets({"dev": splits["dev"]}, num_buckets=3, **settings) == (32,)
