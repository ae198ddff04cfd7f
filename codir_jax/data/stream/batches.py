"""A stream as batches: cut into rows, of which each batch has the next window.

Row r of B has tokens r L .. (r + 1) L - 1, with L = ceil(tokens / B); batch w has tokens w T .. (w + 1) T - 1 of every
row, and their predecessors as input. So every token is predicted exactly once an epoch: that before the first one is
the end of a line, and the last window and the last row are padded. Step s has window s mod ceil(L / T).
"""

from __future__ import annotations

from collections.abc import Iterator

from codir_jax.data.batch import LANGUAGE_MODEL_COLUMNS, Batch, empty
from codir_jax.data.stream.stream import Stream


def num_windows(num_tokens: int, num_rows: int, length: int) -> int:
    """Returns the batches in which every token of a stream comes once."""
    return -(-row_length(num_tokens, num_rows) // length)


def row_length(num_tokens: int, num_rows: int) -> int:
    """Returns the tokens of a row; the last one may have fewer."""
    return -(-num_tokens // num_rows)


def window(stream: Stream, index: int, *, num_rows: int, length: int, rows: range) -> Batch:
    """Returns one batch.

    Args:
      index: of the window in the epoch.
      num_rows: that the stream is cut into. length: tokens of a window.
      rows: of the batch that are wanted; those from num_rows on are padding.
    """
    batch = empty(LANGUAGE_MODEL_COLUMNS, len(rows), length=length)
    size = row_length(len(stream), num_rows)
    batch["input_ids"][:] = batch["next_ids"][:] = stream.eos_token_id
    for place, row in enumerate(rows):
        if row >= num_rows:
            continue
        start = row * size + index * length
        stop = min(start + length, (row + 1) * size, len(stream))
        batch["example_mask"][place] = 1.0
        batch["is_start"][place] = index == 0
        if start < stop:
            tokens = stream.read(start - 1, stop)
            batch["input_ids"][place, : stop - start] = tokens[:-1]
            batch["next_ids"][place, : stop - start] = tokens[1:]
            batch["attention_mask"][place, : stop - start] = 1
    return batch


def windows(
    stream: Stream, *, num_rows: int, length: int, rows: range, start: int = 0, stop: int | None = None
) -> Iterator[Batch]:
    """Yields the batches of steps start .. stop - 1, one epoch after the other; None: of one epoch."""
    epoch = num_windows(len(stream), num_rows, length)
    for step in range(start, epoch if stop is None else stop):
        yield window(stream, step % epoch, num_rows=num_rows, length=length, rows=rows)
