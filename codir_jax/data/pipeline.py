"""Batches in a reproducible order, padded to a length bucket; the batch of a step is a pure function of (seed, step).

Nothing here has a position to save: to resume at step k is to start counting at k. Every process computes the same
global order and keeps its contiguous rows of every global batch, so that the number of processes does not change what a
step sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from codir_jax.data import length_buckets as length_buckets_lib
from codir_jax.data.batch import Batch, check_new_columns
from codir_jax.data.epoch_order import Order, block_size, epoch_batches, num_batches_per_epoch
from codir_jax.data.splits import Examples, columns_of
from codir_jax.processes.user_error import UserError


def even_batch_size(num_examples: int, batch_size: int, multiple: int = 1) -> int:
    """Returns the size of equal batches that pad least: 194 examples, at most 128 at a time, are two batches of 97.

    Args:
      batch_size: at most; itself a multiple.
      multiple: what the size is to be a multiple of, the parts that a batch is split into.
    """
    num_batches = num_batches_per_epoch(num_examples, batch_size)
    return -(-num_examples // (num_batches * multiple)) * multiple


def collate(
    examples: Examples,
    indices: np.ndarray,
    *,
    batch_size: int,
    length_buckets: Sequence[int],
    pad_token_id: int,
    length: int | None = None,
) -> Batch:
    """Returns the batch of rows `indices`, padded to `batch_size` rows and to a length bucket.

    Args:
      examples: split that the rows are of.
      indices: int [<= batch_size]; -1 is a padding row.
      batch_size: rows of the batch.
      length_buckets: allowed lengths.
      pad_token_id: fills `input_ids`.
      length: padded length, where it was chosen from more rows than these (the global batch of several processes).

    Returns:
      Batch as in data/batch.py, without teacher outputs; the split's own further columns are in it. The example id of
      padding rows is len(examples), out of range on purpose.
    """
    if len(indices) > batch_size:
        raise ValueError(f"expected at most batch_size {batch_size} rows, got {len(indices)}")
    rows = np.full(batch_size, -1, np.int64)
    rows[: len(indices)] = indices
    is_real = rows >= 0
    safe = np.where(is_real, rows, 0)
    texts = examples.read(rows[is_real])
    lengths = np.zeros((batch_size, examples.texts_per_row), np.int64)
    lengths[is_real] = texts.lengths
    if length is None:
        length = length_buckets_lib.bucket_length(int(lengths.max(initial=0)), length_buckets)

    is_token = np.arange(length) < lengths[:, :, None]
    input_ids = np.full(is_token.shape, pad_token_id, np.int32)
    input_ids[is_token] = texts.tokens  # both in the order of rows, texts, places
    token_type_ids = np.zeros(is_token.shape, np.int32)
    token_type_ids[is_token] = texts.token_types
    shape = (batch_size, length) if examples.texts_per_row == 1 else is_token.shape

    is_labelled = is_real & examples.is_labelled[safe]
    labels = np.array(examples.labels[safe])
    labels[~is_labelled] = 0
    text_ids = np.array(examples.text_ids[safe])
    text_ids[~is_real] = -1
    return {
        "input_ids": input_ids.reshape(shape),
        "attention_mask": is_token.astype(np.int32).reshape(shape),
        "token_type_ids": token_type_ids.reshape(shape),
        "labels": labels,
        "label_mask": is_labelled.astype(np.float32),
        "example_mask": is_real.astype(np.float32),
        "example_ids": np.where(is_real, rows, len(examples)).astype(np.int32),
        "text_ids": text_ids.astype(np.int32),
        **{name: _gather(values, rows) for name, values in examples.columns.items()},
    }


def train_batches(
    examples: Examples,
    *,
    batch_size: int,
    length_buckets: Sequence[int],
    pad_token_id: int,
    seed: int,
    window: int,
    start_step: int,
    num_steps: int,
    process_index: int = 0,
    process_count: int = 1,
    columns: Mapping[str, np.ndarray] | None = None,
    num_threads: int = 2,
) -> Iterator[Batch]:
    """Returns the batches of steps start_step .. num_steps - 1, epoch after epoch, read ahead in threads by grain.

    Args:
      examples: train split.
      batch_size: rows of the global batch, over all processes.
      length_buckets: allowed lengths; chosen from the global batch, so that all processes have the same shapes.
      pad_token_id: fills `input_ids`.
      seed: with the step, all that the batches depend on.
      window: see `epoch_order.epoch_batches`.
      start_step: first step; resuming costs nothing more than starting.
      num_steps: end of the run, counted from step 0.
      process_index: whose rows of the global batch to return.
      process_count: processes that share the global batch.
      columns: name -> [n, ...] by example id (such as teacher_logits), that join the batch; zeros on padding rows.
      num_threads: of grain; 0 computes in the caller's thread.

    Returns:
      Iterator of Batch with batch_size / process_count rows.
    """
    local = local_rows(batch_size, process_index, process_count)
    lengths = examples.lengths
    columns = dict(columns or {})
    check_new_columns(tuple(columns), tuple(columns_of(examples)))
    for name, values in columns.items():
        if len(values) != len(examples):
            raise ValueError(f"column {name!r} needs one row an example: expected {len(examples)}, got {len(values)}")

    order = Order(lengths, batch_size, seed=seed, window=window)

    def batch_of_step(step: int) -> Batch:
        rows = order.rows(int(step))
        batch = _global_collate(examples, rows, local, lengths, length_buckets, pad_token_id)
        for name, values in columns.items():
            batch[name] = _gather(values, rows[local])
        return batch

    return read_ahead(batch_of_step, start_step, num_steps, num_threads)


def read_ahead(
    batch_of_step: Callable[[int], Batch], start_step: int, num_steps: int, num_threads: int
) -> Iterator[Batch]:
    """Returns batch_of_step(start_step) .. batch_of_step(num_steps - 1), computed ahead by grain's threads."""
    import grain

    steps = grain.MapDataset.range(min(start_step, num_steps), num_steps).map(batch_of_step)
    read_options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=8 if num_threads else 0)
    return iter(steps.to_iter_dataset(read_options=read_options))


def eval_batches(
    examples: Examples,
    *,
    batch_size: int,
    length_buckets: Sequence[int],
    pad_token_id: int,
    process_index: int = 0,
    process_count: int = 1,
    rows: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yields every example exactly once, shortest first; `example_ids` tell the place in the split.

    Args:
      examples: split to go through.
      batch_size: rows of the global batch, over all processes.
      length_buckets: allowed lengths.
      pad_token_id: fills `input_ids`.
      process_index: whose rows of each global batch to yield.
      process_count: processes that share them.
      rows: examples to go through; None is all of them.
    """
    local = local_rows(batch_size, process_index, process_count)
    lengths = examples.lengths
    chosen = np.arange(len(examples)) if rows is None else np.asarray(rows)
    order = np.full(num_batches_per_epoch(len(chosen), batch_size) * batch_size, -1, np.int64)
    order[: len(chosen)] = chosen[np.argsort(lengths[chosen], kind="stable")]
    for batch_rows in order.reshape(-1, batch_size):
        yield _global_collate(examples, batch_rows, local, lengths, length_buckets, pad_token_id)


def choose_length_buckets(
    splits: Mapping[str, Examples],
    *,
    num_buckets: int,
    max_length: int,
    batch_size: int,
    window: int,
    num_steps: int,
    compilation: float,
) -> tuple[int, ...]:
    """Returns the padded lengths for all splits: those that cost the train batches of a run least.

    They follow from the data and these arguments alone, not from the seed or the number of processes.

    Args:
      num_steps: of the run.
      compilation: positions, rows x tokens, that cost as much as one more length does by itself.
    """
    last = max(examples.longest for examples in splits.values())
    longest, each = np.asarray([last]), 0.0
    if "train" in splits:
        train = splits["train"]
        longest = _longest_of_batches(train.lengths, batch_size, seed=0, window=window)
        each = length_buckets_lib.price_of_length(
            compilation, batch_size * train.texts_per_row, num_steps, len(longest)
        )
    return length_buckets_lib.choose(longest, num_buckets, length_buckets_lib.round_up(last, max_length), each)


def real_token_share(
    examples: Examples, *, batch_size: int, length_buckets: Sequence[int], seed: int = 0, window: int = 1
) -> float:
    """Returns the share of real tokens among all padded positions of (the first block of) epoch 0: 1 is no padding."""
    longest = _longest_of_batches(examples.lengths, batch_size, seed=seed, window=window)
    cells = sum(batch_size * length_buckets_lib.bucket_length(int(length), length_buckets) for length in longest)
    num_tokens = examples.num_tokens
    if (size := block_size(len(examples), batch_size, window)) < len(examples):
        num_tokens *= size / len(examples)
    return float(num_tokens) / (cells * examples.texts_per_row)


def _longest_of_batches(lengths: np.ndarray, batch_size: int, *, seed: int, window: int) -> np.ndarray:
    """Tokens of the longest example of each batch of the first block of epoch 0, int [num_batches]."""
    rows = epoch_batches(lengths, batch_size, seed=seed, epoch=0, window=window)
    found = np.asarray(lengths[np.maximum(rows, 0).ravel()]).reshape(rows.shape)
    return np.where(rows >= 0, found, 0).max(axis=1)


def local_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """Returns which rows of a global batch are this process's.

    Raises:
      UserError: the batch is not divisible by the processes.
      ValueError: process_index is not that of one of them.
    """
    if batch_size % process_count:
        lower = batch_size - batch_size % process_count
        raise UserError(
            f"batch_size {batch_size} is not divisible by {process_count} processes; "
            f"use {lower or process_count} or {lower + process_count}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index is in 0..{process_count - 1}, got {process_index}")
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)


def _global_collate(examples, rows, local, lengths, length_buckets, pad_token_id) -> Batch:
    """Collates rows[local] at the length of the whole batch."""
    longest = int(lengths[rows[rows >= 0]].max(initial=0))
    return collate(
        examples,
        rows[local],
        batch_size=local.stop - local.start,
        length_buckets=length_buckets,
        pad_token_id=pad_token_id,
        length=length_buckets_lib.bucket_length(longest, length_buckets),
    )


def _gather(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns values[rows] with zeros where rows is -1."""
    gathered = np.array(values[np.where(rows >= 0, rows, 0)])
    gathered[rows < 0] = 0
    return gathered
