"""A train split on disk that reads like `splits.Examples`: nothing of it is kept in memory."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codir_jax.data.batch import check_new_columns
from codir_jax.data.on_disk import joined, shard
from codir_jax.data.shards.files import OpenFiles
from codir_jax.data.splits import Tokens
from codir_jax.processes.user_error import UserError

# So many rows are read one by one.
_FEW_ROWS = 512
_FILES = OpenFiles(io.FileIO)


class Column:
    """An array [n, ...] in a .npy file; `column[rows]` and slices are read from it, `np.asarray(column)` is the whole.

    The file does not stay mapped: what has been read of a map counts as memory of the process as long as it is mapped.

    Args:
      path: of the file. field: of its rows, where they are records. dtype: to be read as, instead of the file's.
    """

    def __init__(self, path: Path, field: str = "", dtype: Any = None):
        whole = np.load(path, mmap_mode="r")
        self._path, self._field = os.fspath(path), field
        self._first_byte, self._row = whole.offset, np.dtype((whole.dtype, whole.shape[1:]))
        self.shape = whole.shape
        self.dtype = np.dtype(dtype or (whole.dtype[field] if field else whole.dtype))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        if not isinstance(rows, slice) and rows.dtype == bool:
            rows = np.flatnonzero(rows)
        if not isinstance(rows, slice) and np.ndim(rows) == 1 and len(rows) <= _FEW_ROWS:
            # Mapping the file takes as long as reading some hundred rows.
            file, size = _FILES.open(self._path).fileno(), self._row.itemsize
            places = (self._first_byte + size * np.asarray(rows, np.int64)).tolist()
            content = b"".join([os.pread(file, size, place) for place in places])
            found = np.frombuffer(content, self._row.base).reshape(len(places), *self.shape[1:])
        else:
            found = np.load(self._path, mmap_mode="r")[rows]
        return np.array(found[self._field] if self._field else found, self.dtype)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy  # always a copy
        return np.array(self[:], dtype)


class _First:
    """bool [n], True for the first `count` rows."""

    def __init__(self, count: int, size: int):
        self._count, self._size = count, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, rows) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self._size))
        return np.asarray(rows) < self._count

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy  # always a copy
        return np.asarray(self[:], dtype)

    def all(self) -> bool:
        """Whether all are."""
        return self._count == self._size

    def sum(self) -> int:
        """How many are."""
        return self._count


@dataclasses.dataclass(frozen=True, eq=False)
class StoredExamples:
    """The rows of a split that `joined.write` has written; attributes of the names of `splits.Examples` are as there.

    Attributes:
      place: of the split. shards: folders of the tokens. starts: int64 [shards + 1], first byte of each.
      facts: of the split. dtype: of an id. has_types: tokens have types.
      column_names: of the further columns.
    """

    place: Path
    shards: tuple[Path, ...]
    starts: np.ndarray
    facts: Mapping[str, Any]
    dtype: np.dtype
    has_types: bool
    column_names: tuple[str, ...]

    texts_per_row = 1

    def __post_init__(self):
        check_new_columns(self.column_names)

    def __len__(self) -> int:
        return self.facts["num_rows"]

    @property
    def digest(self) -> str:
        """sha256 hex of all that is read from here."""
        return self.facts["digest"]

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return self.facts["longest"]

    @property
    def num_tokens(self) -> int:
        """Of all texts, specials included."""
        return self.facts["num_tokens"]

    @property
    def seen_tokens(self) -> None:
        """The ids that occur are not known: all tokens had to be read."""

    @functools.cached_property
    def lengths(self) -> Column:
        """Tokens of each row, specials included: int32 [n]."""
        return Column(self.place / joined.LENGTHS_FILE, dtype=np.int32)

    @functools.cached_property
    def labels(self) -> Column:
        """int32 [n] classes or float32 [n] targets; 0 where unlabelled."""
        return Column(self.place / joined.ROWS_FILE, "label")

    @functools.cached_property
    def text_ids(self) -> Column:
        """int32 [n], smallest row with the same texts."""
        return Column(self.place / joined.ROWS_FILE, "text_id")

    @functools.cached_property
    def _token_files(self) -> list[str]:
        return [os.fspath(folder / shard.TOKENS_FILE) for folder in self.shards]

    @functools.cached_property
    def _rows(self) -> Column:
        return Column(self.place / joined.ROWS_FILE)

    @property
    def is_labelled(self) -> _First:
        """bool [n]."""
        return _First(self.facts["num_labelled"], len(self))

    @functools.cached_property
    def columns(self) -> dict[str, Column]:
        """name -> [n, ...]."""
        return {name: Column(self.place / shard.column_file(name)) for name in self.column_names}

    def read(self, rows: np.ndarray) -> Tokens:
        """Returns the texts of `rows`, int [k]; any thread may ask.

        Raises:
          UserError: a file is damaged.
        """
        table = self._rows[rows]
        places = np.searchsorted(self.starts, table["start"], side="right") - 1
        offsets = table["start"] - self.starts[places]
        lengths, ids, types = [], [], []
        for place, offset, size in zip(places.tolist(), offsets.tolist(), table["size"].tolist(), strict=True):
            path = self._token_files[place]
            record = os.pread(_FILES.open(path).fileno(), size, offset)
            parsed = shard.parse(record, self.dtype, self.has_types)
            if parsed is None:
                raise UserError(
                    f"{path} is damaged at byte {offset} (checksum); remove the folder {self.shards[place]}, and "
                    "the next run makes it again"
                )
            lengths.append(parsed[0])
            ids.append(parsed[1])
            types.append(parsed[2])
        tokens = np.frombuffer(b"".join(ids), self.dtype).astype(np.int32)
        token_types = np.frombuffer(b"".join(types), np.int8) if self.has_types else np.zeros(len(tokens), np.int8)
        return Tokens(np.asarray(lengths, np.int64)[:, None], tokens, token_types)
