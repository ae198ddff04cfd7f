"""Rows of a tokenised split: facts of each memory-mapped, tokens read at random from array_record shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from codir_jax.data.shards import array_records


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """One split; row r is example r. The arrays are memory-mapped.

    Attributes:
      document_ids: int32 [n], document of the row, ascending; rows of a document are in its order.
      text_ids: int32 [n], smallest row of the split with the same tokens.
      lengths: int32 [n], tokens, specials included.
      chunks: int32 [n], record of the row, counted over all shards.
      shard_paths: array_records.
      shard_offsets: int64 [num_shards + 1], first record of each.
      dtype: of a record.
      num_masked_max: masked positions of a row at most.
      source_offsets: int64 [num_sources + 1], first row of each source.
      source_weights: how often the rows of each are drawn in an epoch.
    """

    document_ids: np.ndarray
    text_ids: np.ndarray
    lengths: np.ndarray
    chunks: np.ndarray
    shard_paths: tuple[str, ...]
    shard_offsets: np.ndarray
    dtype: str
    num_masked_max: int
    source_offsets: np.ndarray
    source_weights: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.document_ids)

    def tokens(self, rows: Sequence[int]) -> list[np.ndarray]:
        """Returns the token ids of each row, specials included: int32 [lengths[row]]. Any thread may ask."""
        numbers = np.asarray(self.chunks[np.asarray(rows, np.int64)], np.int64)
        found = array_records.read(self.shard_paths, self.shard_offsets, numbers)
        return [np.frombuffer(record, self.dtype).astype(np.int32) for record in found]
