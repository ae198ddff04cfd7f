"""Records of many array_records, read at random."""

from __future__ import annotations

import collections
import resource
import threading
from collections.abc import Sequence

import numpy as np

# Uncompressed: token ids compress badly, and are read one at a time.
WRITER_OPTIONS = "group_size:1,uncompressed"


def read(paths: Sequence[str], offsets: np.ndarray, numbers: np.ndarray) -> list[bytes]:
    """Returns the records `numbers`, counted over all files. Any thread may ask.

    Args:
      paths: array_records.
      offsets: int64 [files + 1], number of the first record of each.
      numbers: int64 [n].
    """
    places = np.searchsorted(offsets, numbers, side="right") - 1
    found: list[bytes] = [b""] * len(numbers)
    for shard in np.unique(places):
        wanted = np.flatnonzero(places == shard)
        records = _READERS.open(paths[shard]).read((numbers[wanted] - offsets[shard]).tolist())
        for i, record in zip(wanted.tolist(), records, strict=True):
            found[i] = record
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
