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


# Positions, rows x tokens, that a step pads in the time in which one more program is compiled: 8 s over 1 ms of a
# MiniLM of 6 layers on a core; 16 s of XLA's GPU compiler over 3 us of a BERT-base on a card. The order of magnitude is
# what matters, and that it follows from the kind of device alone, so that the lengths do.
ON_CPU, ON_ACCELERATOR = 10_000, 5_000_000


def compilation(platform: str) -> int:
    """Returns the positions of padding that cost as much as one more program on devices of `platform`."""
    return ON_CPU if platform == "cpu" else ON_ACCELERATOR


def price_of_length(compilation: float, batch_size: int, num_steps: int, num_batches: int) -> float:
    """Returns `each` of `choose`, where `num_batches` stand for all `num_steps` of a run."""
    return compilation * num_batches / (batch_size * max(num_steps, 1))


def choose(longest: np.ndarray, num_buckets: int, last: int, each: float = 0.0) -> tuple[int, ...]:
    """Returns the at most `num_buckets` lengths, ascending, that pad batches to the fewest positions in all.

    An exact dynamic programme over multiples of STEP: with c_1 < c_2 < ... the candidates and n(a, b] the number of
    batches whose longest example has more than a and at most b tokens,

        cost(1, j) = n(0, c_j] c_j        cost(k, j) = min_{i < j} cost(k - 1, i) + n(c_i, c_j] c_j

    and of these cost(k, last) + k * each is least.

    Args:
      longest: int [num_batches], tokens of the longest example of each batch; none above `last`.
      num_buckets: at least 1.
      last: tokens of the longest example of all; it is the last bucket.
      each: what a length costs by itself, in tokens of a row of each of the batches.
    """
    if num_buckets < 1:
        raise UserError(f"data.num_length_buckets must be >= 1, got {num_buckets}")
    candidates = np.append(np.arange(STEP, last, STEP), last)
    # num_within[j]: batches that candidate j holds.
    num_within = np.searchsorted(np.sort(longest), candidates, side="right")
    cost = num_within * candidates
    came_from, in_all = [], [cost[-1]]
    for _ in range(num_buckets - 1):
        # [i, j]: i is the bucket before j; i = j is one bucket fewer.
        via = cost[:, None] + np.maximum(num_within - num_within[:, None], 0) * candidates
        via[np.tril_indices(len(candidates), -1)] = np.iinfo(np.int64).max
        fewest = via.min(axis=0)
        came_from.append(np.where(fewest < cost, via.argmin(axis=0), np.arange(len(candidates))))
        cost = fewest
        in_all.append(cost[-1])
    num_chosen = int(np.argmin(np.asarray(in_all) + each * np.arange(len(in_all))))
    j = len(candidates) - 1
    chosen = {int(candidates[j])}
    for before in reversed(came_from[:num_chosen]):
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
