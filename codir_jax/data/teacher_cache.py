"""Teacher outputs on the train set: computed once, kept on disk under a fingerprint, shared by all runs that fit.

    DIR/FINGERPRINT/meta.json          what the fingerprint was made of, for people
    DIR/FINGERPRINT/shard-00000.bin    rows 0 .. shard_rows - 1: every array in order of its name, row-major; then the
                                       CRC-32 of all that, 4 bytes, little-endian

A file appears whole or not at all (it is written aside and renamed), so a run that was killed leaves finished shards
to go on from, and two runs that write the same one do no harm: they write the same bytes. Nothing that is whole is ever
removed, and a file aside, `*.part`, is locked by its writer: only one whose writer is gone is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import math
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from codir_jax.processes import claims
from codir_jax.processes.user_error import CannotWriteError

# Counts up when files or the meaning of their numbers change, so that older ones are never read.
FORMAT = 1
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_CRC_BYTES = 4
_READ_BYTES = 1 << 24
_ATTEMPTS = 5  # to write a file that others remove


@dataclasses.dataclass(frozen=True)
class Layout:
    """What is kept.

    Attributes:
      num_examples: rows of the train set.
      shapes: name of an array -> shape of one of its rows.
      dtype: that the rows are kept in, a key of `DTYPES`.
      shard_rows: rows of a shard; they are in memory at once while it is computed.
    """

    num_examples: int
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    shard_rows: int = 4096

    @property
    def num_shards(self) -> int:
        """ceil(num_examples / shard_rows)."""
        return -(-self.num_examples // self.shard_rows)

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return self.num_examples * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return sum(map(math.prod, self.shapes.values())) * DTYPES[self.dtype].itemsize

    def rows(self, shard: int) -> range:
        """Train rows of a shard."""
        start = shard * self.shard_rows
        return range(start, min(start + self.shard_rows, self.num_examples))

    def shard_bytes(self, shard: int) -> int:
        """Bytes of a shard's rows in its file."""
        return len(self.rows(shard)) * self._row_bytes


class TeacherCache:
    """The cache of one fingerprint under `cache_dir`.

    Args:
      cache_dir: folder of all caches.
      layout: what is kept; part of the fingerprint.
      parts: everything else that the outputs depend on, JSON values: weights and architecture of the teacher, data,
        layers, pooling, dtype, arithmetic of the machine.
    """

    def __init__(self, cache_dir: str | os.PathLike, layout: Layout, **parts: object):
        self.layout = layout
        self._meta = {"format": FORMAT, "layout": dataclasses.asdict(layout), **parts}
        self.folder = Path(cache_dir) / fingerprint(**self._meta)

    def missing(self, tell: Callable[[str], None] = print) -> list[int]:
        """Returns the shards that are still to be computed; a damaged one is told and among them."""
        missing = []
        for shard in range(self.layout.num_shards):
            path = self._path(shard)
            if not path.exists():
                missing.append(shard)
            elif not self._is_whole(shard):
                tell(f"teacher cache: {path} is damaged (size or checksum); it is computed again")
                missing.append(shard)
        return missing

    def missing_bytes(self) -> int:
        """Returns the bytes of the shards that are not there, without a look into those that are."""
        layout = self.layout
        return sum(layout.shard_bytes(shard) for shard in range(layout.num_shards) if not self._path(shard).exists())

    def free_bytes(self) -> int:
        """Returns the free space of the disk that the cache is (to be) on."""
        folder = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists())
        return shutil.disk_usage(folder).free

    def write(self, shard: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps a shard unless it is there and whole by now; another run may have been faster.

        Args:
          shard: its number.
          arrays: name -> float [rows of the shard, ...].

        Raises:
          ValueError: an array has another shape than the layout says.
          CannotWriteError: the folder cannot be written.
        """
        content = []
        for name, shape in sorted(self.layout.shapes.items()):
            expected = (len(self.layout.rows(shard)), *shape)
            if arrays[name].shape != expected:
                raise ValueError(f"teacher cache: expected {name} {expected}, got {arrays[name].shape}")
            content.append(np.ascontiguousarray(arrays[name], DTYPES[self.layout.dtype]).view(np.uint8).reshape(-1))
        if self._is_whole(shard):
            return
        crc = functools.reduce(lambda crc, part: zlib.crc32(part, crc), content, 0)
        self._put(self._path(shard), [*content, crc.to_bytes(_CRC_BYTES, "little")])

    def fill(
        self,
        compute: Callable[[list[range]], Iterable[Mapping[str, np.ndarray]]],
        *,
        tell: Callable[[str], None] = print,
        alone: bool = True,
        agree: Callable[[list[int]], list[int]] = lambda missing: missing,
    ) -> None:
        """Makes the cache complete, from where an earlier run left it.

        Args:
          compute: given the rows of the missing shards, yields each shard's arrays in turn.
          tell: prints a line.
          alone: one run fills and the others wait for it. Processes of one run that compute together must not wait
            for each other: False. They then write at the same time as others, which is safe.
          agree: makes one list of the missing shards that processes with folders of their own see.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            claims.check(self.folder, claims.CACHE, "teacher.cache_dir")
            (self.folder / "lock").touch()
        except OSError as error:
            raise self._unwritable(error) from error
        with _locked(self.folder / "lock", tell) if alone else contextlib.nullcontext():
            for leftover in self.folder.glob("*.part"):
                _remove_if_ownerless(leftover)
            if not (self.folder / "meta.json").exists():
                self._put(self.folder / "meta.json", [(json.dumps(self._meta, indent=2) + "\n").encode()])
            missing = agree(self.missing(tell))
            for shard, arrays in zip(missing, compute([self.layout.rows(s) for s in missing]), strict=True):
                self.write(shard, arrays)

    def read(self) -> dict[str, Rows]:
        """Returns name -> the rows of the complete cache, memory-mapped."""
        layout, dtype = self.layout, DTYPES[self.layout.dtype]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in sorted(layout.shapes)}
        for shard in range(layout.num_shards):
            whole = np.memmap(self._path(shard), dtype, mode="r", shape=(layout.shard_bytes(shard) // dtype.itemsize,))
            size, start = len(layout.rows(shard)), 0
            for name, shards in parts.items():
                end = start + size * math.prod(layout.shapes[name])
                shards.append(whole[start:end].reshape(size, *layout.shapes[name]))
                start = end
        return {name: Rows(shards, layout.shard_rows) for name, shards in parts.items()}

    def _put(self, path: Path, content: Sequence[bytes | np.ndarray]) -> None:
        """Writes a file in one rename, so that it is whole or not there.

        The file aside is locked while it is written: it has an owner. Another run may come between its making and its
        locking, or be on a host that does not see the lock, and remove it: it is then written again.
        """
        for attempts_left in reversed(range(_ATTEMPTS)):
            aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
            try:
                with aside.open("wb") as file:
                    with contextlib.suppress(OSError):  # a file system without locks
                        fcntl.flock(file, fcntl.LOCK_EX)
                    for part in content:
                        file.write(part)
                    file.flush()
                    aside.replace(path)
                return
            except FileNotFoundError as error:
                if not attempts_left or not self.folder.exists():
                    raise self._unwritable(error) from error
            except OSError as error:
                raise self._unwritable(error) from error
            finally:
                aside.unlink(missing_ok=True)

    def _is_whole(self, shard: int) -> bool:
        path, num_bytes, crc = self._path(shard), self.layout.shard_bytes(shard), 0
        if not path.exists() or path.stat().st_size != num_bytes + _CRC_BYTES:
            return False
        with path.open("rb") as file:
            while num_bytes:
                part = file.read(min(num_bytes, _READ_BYTES))
                crc = zlib.crc32(part, crc)
                num_bytes -= len(part)
            return file.read() == crc.to_bytes(_CRC_BYTES, "little")

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.bin"

    def _unwritable(self, error: OSError) -> CannotWriteError:
        return CannotWriteError(
            f"cannot write the teacher cache {self.folder}: {error}; free some space, give another teacher.cache_dir, "
            "or set teacher.cache=off"
        )


class Rows:
    """float [num_examples, ...] in shards: `rows[ids]` gathers, `np.asarray(rows)` is the whole in memory.

    Args:
      shards: arrays of `shard_rows` rows, the last one of what is left.
      shard_rows: rows of a shard.
    """

    def __init__(self, shards: list[np.ndarray], shard_rows: int):
        self._shards, self._shard_rows = shards, shard_rows
        self.shape = (sum(map(len, shards)), *shards[0].shape[1:])
        self.dtype = shards[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Returns the rows `ids`, int [n] >= 0, in memory."""
        ids = np.asarray(ids)
        shard_of, place = np.divmod(ids, self._shard_rows)
        gathered = np.empty((len(ids), *self.shape[1:]), self.dtype)
        for shard in np.unique(shard_of):
            chosen = shard_of == shard
            gathered[chosen] = self._shards[shard][place[chosen]]
        return gathered

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy  # always a copy
        whole = np.concatenate(self._shards)
        return whole if dtype is None else whole.astype(dtype, copy=False)


def fingerprint(**parts: object) -> str:
    """sha256 hex of everything the outputs depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _remove_if_ownerless(aside: Path) -> None:
    """Removes a file aside that nobody has locked: the lock goes with its writer. In doubt it stays."""
    with contextlib.suppress(OSError), aside.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside.unlink()


@contextlib.contextmanager
def _locked(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock file; the system lets it go with the process, however that ends.

    On a file system without locks it holds nothing: two runs may then do the same work, which breaks nothing.
    """
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"teacher cache: another run is filling {path.parent}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
