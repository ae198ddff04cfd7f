"""Rows of a tokenised split: facts of each memory-mapped, tokens read at random from array_record shards."""

from __future__ import annotations

import collections
import dataclasses
import resource
import threading
from collections.abc import Sequence

import numpy as np


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
        records = np.asarray(self.chunks[np.asarray(rows, np.int64)], np.int64)
        places = np.searchsorted(self.shard_offsets, records, side="right") - 1
        found: list[np.ndarray | None] = [None] * len(records)
        for shard in np.unique(places):
            wanted = np.flatnonzero(places == shard)
            numbers = (records[wanted] - self.shard_offsets[shard]).tolist()
            for i, record in zip(wanted, _READERS.open(self.shard_paths[shard]).read(numbers), strict=True):
                found[i] = np.frombuffer(record, self.dtype).astype(np.int32)
        return found


class _Readers:
    """Open array_records by path, the longest unused closed first; each holds a file descriptor and an index."""

    def __init__(self):
        self._lock = threading.Lock()
        self._open: collections.OrderedDict = collections.OrderedDict()

    def open(self, path: str):
        from array_record.python.array_record_module import ArrayRecordReader

        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
            if len(self._open) >= max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
                self._open.popitem(last=False)  # a thread that reads from it still holds it
            # Nothing is read ahead, and no more than a record is read: rows are asked for at random.
            options = "readahead_buffer_size:0,max_parallelism:0"
            reader = self._open[path] = ArrayRecordReader(path, options, file_reader_buffer_size=4096)
            return reader


_READERS = _Readers()
