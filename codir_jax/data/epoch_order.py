"""Which examples are in the batch of a step: a pure function of (seed, step), for every process alike."""

from __future__ import annotations

import functools
from concurrent import futures

import numpy as np

from codir_jax.data.shuffle import SHUFFLED_WHOLE, permuted
from codir_jax.processes.user_error import UserError


def num_batches_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns ceil(num_examples / batch_size): the last batch of an epoch may be uneven and is padded."""
    if num_examples < 1 or batch_size < 1:
        raise UserError(f"expected at least one example and batch_size >= 1, got {num_examples} and {batch_size}")
    return -(-num_examples // batch_size)


def block_size(num_examples: int, batch_size: int, window: int) -> int:
    """Returns how many examples of an epoch are put in order at a time: all, or about `SHUFFLED_WHOLE` of many."""
    if window < 1:
        raise UserError(f"bucket_window is at least 1 (no sorting), got {window}")
    stretch = window * batch_size
    return num_examples if num_examples <= SHUFFLED_WHOLE else max(SHUFFLED_WHOLE // stretch, 1) * stretch


def epoch_batches(
    lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, window: int = 1, block: int = 0
) -> np.ndarray:
    """Returns the rows of the batches of one block of an epoch: a pure function of (seed, epoch, block).

    The blocks of an epoch together have each example once. Of up to `SHUFFLED_WHOLE` examples the epoch is one block,
    shuffled; of more, a block holds those at its places in a pseudo-random order of all, which is computed and never
    stored. With window > 1 the shuffled examples are sorted by length within stretches of `window` batches, then the
    batches of the block are shuffled: batches of like lengths, and no batch composition or order that repeats from
    epoch to epoch.

    Args:
      lengths: int32 [n], tokens of each example: an array, or what gives one for an array of rows.
      batch_size: rows of a batch.
      seed: of the run.
      epoch: counted from 0.
      window: batches sorted together; 1 is a plain shuffle.
      block: of the epoch, counted from 0.

    Returns:
      int64 [ceil(examples of the block / batch_size), batch_size]; -1 fills the one uneven batch of the epoch.
    """
    num_examples, size = len(lengths), block_size(len(lengths), batch_size, window)
    num_batches_per_epoch(num_examples, batch_size)
    start, stop = block * size, min((block + 1) * size, num_examples)
    if size == num_examples:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(num_examples).astype(np.int64)
    else:
        rng = np.random.default_rng([seed, epoch, block])
        order = permuted(np.arange(start, stop), num_examples, seed, epoch)
    if window > 1:
        stretch = np.arange(len(order)) // (window * batch_size)
        # lexsort is stable: equal lengths stay in shuffled order, and the last key (stretch) is the first criterion.
        order = order[np.lexsort((np.asarray(lengths[order]), stretch))]
    num_batches = -(-len(order) // batch_size)
    rows = np.full(num_batches * batch_size, -1, np.int64)
    rows[: len(order)] = order
    rows = rows.reshape(num_batches, batch_size)
    return rows[rng.permutation(num_batches)] if window > 1 else rows


class Order:
    """The rows of each step's batch; the next block of many is put in order while this one is used."""

    def __init__(self, lengths: np.ndarray, batch_size: int, *, seed: int, window: int):
        self._of_block = functools.partial(epoch_batches, lengths, batch_size, seed=seed, window=window)
        self._per_epoch = num_batches_per_epoch(len(lengths), batch_size)
        self._per_block = -(-block_size(len(lengths), batch_size, window) // batch_size)
        self._blocks = -(-self._per_epoch // self._per_block)
        # Threads work on neighbouring steps: of blocks, this one, the next and the one before are enough at any time.
        self._cached = functools.lru_cache(maxsize=3)(self._ordered if self._blocks == 1 else self._submitted)
        self._worker = futures.ThreadPoolExecutor(1) if self._blocks > 1 else None

    def rows(self, step: int) -> np.ndarray:
        """Returns int64 [batch_size]; -1 fills up."""
        epoch, position = divmod(step, self._per_epoch)
        block, place = divmod(position, self._per_block)
        number = epoch * self._blocks + block
        if self._worker is None:
            return self._cached(number)[place]
        now = self._cached(number)
        self._cached(number + 1)
        return now.result()[place]

    def _ordered(self, number: int) -> np.ndarray:
        epoch, block = divmod(number, self._blocks)
        return self._of_block(epoch=epoch, block=block)

    def _submitted(self, number: int) -> futures.Future:
        return self._worker.submit(self._ordered, number)
