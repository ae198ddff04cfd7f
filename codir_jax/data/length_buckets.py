"""Padded lengths: few enough to compile, chosen so that as little as possible is padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codir_jax.processes.user_error import UserError

# For texts that are not known beforehand (prediction): at most 12 shapes, a third of padding at worst above 16 tokens.
LADDER = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Candidates are its multiples: finer ones gained under 2 points of real tokens on CoLA, RTE and SST-2, 8 lost up to 10.
STEP = 4


def ladder(max_length: int) -> tuple[int, ...]:
    """Returns the lengths of LADDER below `max_length`, and that."""
    return (*(length for length in LADDER if length < max_length), max_length)


# A length that fewer batches of an epoch have than this costs more to compile than it saves: of a small model the
# compiler's ten seconds are those of a hundred steps.
LEAST_BATCHES = 16


def worthwhile(num_buckets: int, num_batches: int) -> int:
    """Returns how many of `num_buckets` lengths are worth their compilation, of an epoch of so many batches."""
    return min(num_buckets, max(num_batches // LEAST_BATCHES, 1))


def choose(longest: np.ndarray, num_buckets: int, last: int) -> tuple[int, ...]:
    """Returns the at most `num_buckets` lengths, ascending, that pad batches to the fewest positions in all.

    An exact dynamic programme over multiples of STEP: with c_1 < c_2 < ... the candidates and n(a, b] the number of
    batches whose longest example has more than a and at most b tokens,

        cost(1, j) = n(0, c_j] c_j        cost(k, j) = min_{i < j} cost(k - 1, i) + n(c_i, c_j] c_j

    Args:
      longest: int [num_batches], tokens of the longest example of each batch; none above `last`.
      num_buckets: at least 1.
      last: tokens of the longest example of all; it is the last bucket.
    """
    if num_buckets < 1:
        raise UserError(f"data.num_length_buckets must be >= 1, got {num_buckets}")
    candidates = np.append(np.arange(STEP, last, STEP), last)
    # num_within[j]: batches that candidate j holds.
    num_within = np.searchsorted(np.sort(longest), candidates, side="right")
    cost = num_within * candidates
    came_from = []
    for _ in range(num_buckets - 1):
        # [i, j]: i is the bucket before j; i = j is one bucket fewer.
        via = cost[:, None] + np.maximum(num_within - num_within[:, None], 0) * candidates
        via[np.tril_indices(len(candidates), -1)] = np.iinfo(np.int64).max
        fewest = via.min(axis=0)
        came_from.append(np.where(fewest < cost, via.argmin(axis=0), np.arange(len(candidates))))
        cost = fewest
    j = len(candidates) - 1
    chosen = {int(candidates[j])}
    for before in reversed(came_from):
        j = int(before[j])
        chosen.add(int(candidates[j]))
    return tuple(sorted(chosen))


def round_up(longest: int, max_length: int) -> int:
    """Returns the last bucket for examples of up to `longest` tokens: a multiple of STEP, or `max_length`."""
    return min(-(-longest // STEP) * STEP, max_length)


def bucket_length(longest: int, length_buckets: Sequence[int]) -> int:
    """Returns the smallest bucket that holds `longest` tokens."""
    fitting = [bucket for bucket in length_buckets if bucket >= longest]
    if not fitting:
        raise ValueError(f"an example has {longest} tokens and the largest bucket is {max(length_buckets, default=0)}")
    return int(min(fitting))
