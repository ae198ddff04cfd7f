"""Records of many array_records, read at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codir_jax.data.shards.files import OpenFiles

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


def _open(path: str):
    from array_record.python.array_record_module import ArrayRecordReader

    # Nothing is read ahead, and no more than a record is read: rows are asked for at random.
    return ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=4096)


_READERS = OpenFiles(_open)
