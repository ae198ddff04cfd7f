"""Batches of masked chunks; the batch of a step is a pure function of (seed, step), as in data/pipeline.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from codir_jax.data.batch import Batch
from codir_jax.data.corpus import masking as masking_lib
from codir_jax.data.corpus import shards
from codir_jax.data.corpus.chunks import Chunks
from codir_jax.data.corpus.corpus import Corpus
from codir_jax.data.corpus.order import Order, order_of
from codir_jax.data.pipeline import local_rows, read_ahead

# The masks of an evaluation are fixed, so that models are compared on the same tokens.
_EVAL_SEED, _EVAL_EPOCH = 0, 0


def train_batches(
    corpus: Corpus,
    config,
    *,
    seed: int,
    start_step: int,
    num_steps: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
) -> Iterator[Batch]:
    """Returns the batches of steps start_step .. num_steps - 1, epoch after epoch, read ahead in threads by grain.

    Args:
      corpus: its train split is read.
      config: the data section: batch_size, chunks_per_document.
      seed: with the step, all that the batches depend on.
      start_step: first step; resuming costs nothing more than starting.
      num_steps: end of the run, counted from step 0.
      process_index: whose rows of the global batch to return.
      process_count: processes that share the global batch.
      num_threads: of grain; 0 computes in the caller's thread.

    Returns:
      Iterator of Batch (data/batch.py, keys of a masked language model) with batch_size / process_count rows.
    """
    local = local_rows(config.batch_size, process_index, process_count)
    chunks = corpus.splits["train"]
    order = train_order(corpus, config, seed)

    def batch_of_step(step: int) -> Batch:
        return collate(corpus, chunks, *order.rows(int(step), local), seed=seed)

    return read_ahead(batch_of_step, start_step, num_steps, num_threads)


def eval_batches(
    corpus: Corpus,
    split: str,
    config,
    *,
    rows: Sequence[int] | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields each chunk exactly once, with masks that are the same in every evaluation of every run.

    Args:
      corpus: whose split is read.
      split: "train" or "dev".
      config: the data section: eval_batch_size, max_dev_chunks.
      rows: chunks to go through; None is `eval_rows`.
      process_index: whose rows of each global batch to yield.
      process_count: processes that share them.
    """
    local = local_rows(config.eval_batch_size, process_index, process_count)
    chunks = corpus.splits[split]
    chosen = eval_rows(chunks, config.max_dev_chunks) if rows is None else np.asarray(rows, np.int64)
    size = config.eval_batch_size
    for start in range(0, len(chosen), size):
        batch = np.full(size, -1, np.int64)
        batch[: len(chosen[start : start + size])] = chosen[start : start + size]
        epochs = np.full(size, _EVAL_EPOCH)
        yield collate(corpus, chunks, batch[local], epochs[local], seed=_EVAL_SEED)


def eval_rows(chunks: Chunks, max_chunks: int) -> np.ndarray:
    """Returns the rows that an evaluation reads: all, or max_chunks evenly spread, int64 [k] ascending."""
    count = min(len(chunks), max_chunks)
    return (2 * np.arange(count, dtype=np.int64) + 1) * len(chunks) // (2 * count)


def steps_per_epoch(corpus: Corpus, config) -> int:
    """Returns the steps that give every source its weight once; the last batch may be uneven and is padded."""
    return train_order(corpus, config, 0).steps_per_epoch


def real_token_share(corpus: Corpus) -> float:
    """Returns the share of real tokens among all positions of the train split: 1 is no padding at all."""
    chunks = corpus.splits["train"]
    num_tokens = corpus.info.num_tokens["train"] + shards.NUM_SPECIAL * len(chunks)
    return num_tokens / (len(chunks) * corpus.max_length)


def train_order(corpus: Corpus, config, seed: int) -> Order:
    """Returns the order of the train split: its `rows(step)` are the example ids of a step's batch."""
    chunks = corpus.splits["train"]
    return order_of(
        chunks.source_offsets,
        chunks.source_weights,
        batch_size=config.batch_size,
        unit_size=config.chunks_per_document,
        seed=seed,
    )


def collate(corpus: Corpus, chunks: Chunks, rows: np.ndarray, epochs: np.ndarray, *, seed: int) -> Batch:
    """Returns the batch of `rows`, masked as of (seed, epochs, rows).

    Args:
      corpus: masking and padding.
      chunks: split that the rows are of.
      rows: int64 [B]; -1 is a padding row.
      epochs: int64 [B], masking epoch of each row.
      seed: of the masks.

    Returns:
      Batch as in data/batch.py.
    """
    size, slots = len(rows), chunks.num_masked_max
    is_real = rows >= 0
    safe = np.where(is_real, rows, 0)
    input_ids = np.full((size, corpus.max_length), corpus.pad_token_id, np.int32)
    attention_mask = np.zeros((size, corpus.max_length), np.int32)
    positions = np.zeros((size, slots), np.int32)
    labels = np.zeros((size, slots), np.int32)
    weights = np.zeros((size, slots), np.float32)
    places = np.flatnonzero(is_real)
    for place, tokens in zip(places, chunks.tokens(rows[places]), strict=True):
        rng = masking_lib.generator(seed, int(epochs[place]), int(rows[place]))
        masked, where, what = masking_lib.mask(tokens, rng, corpus.masking)
        input_ids[place, : len(tokens)] = masked
        attention_mask[place, : len(tokens)] = 1
        positions[place, : len(where)] = where
        labels[place, : len(where)] = what
        weights[place, : len(where)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": np.zeros_like(input_ids),
        "masked_positions": positions,
        "masked_labels": labels,
        "masked_weights": weights,
        "example_mask": is_real.astype(np.float32),
        "example_ids": np.where(is_real, rows, len(chunks)).astype(np.int32),
        "text_ids": np.where(is_real, chunks.text_ids[safe], -1).astype(np.int32),
        "document_ids": np.where(is_real, chunks.document_ids[safe], -1).astype(np.int32),
    }
