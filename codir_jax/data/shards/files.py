"""Files as they were found, and where large ones can be cut into units of work."""

from __future__ import annotations

import collections
import dataclasses
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A unit is the smallest thing that is lost when a preparation is stopped, and one shard: a small corpus still keeps
# many cores busy, a huge one stays at some thousand open files.
_MIN_UNIT_BYTES = 1 << 20
_FEW_UNITS, _MANY_UNITS = 256, 4096
# A line may be so long before a file is not cut there.
_MAX_SEEK = 1 << 20


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file as it was found: path, bytes, nanoseconds of its last change."""

    path: str
    size: int
    mtime: int


@dataclasses.dataclass(frozen=True)
class Part:
    """Bytes start .. end of a file (None: to its end, which closes the document); start > 0 is behind a line end."""

    path: str
    start: int = 0
    end: int | None = None


def text_file(path: Path) -> TextFile:
    """Returns the file as it is now."""
    state = path.stat()
    return TextFile(os.path.realpath(path), state.st_size, state.st_mtime_ns)


def unit_bytes(total: int, largest: int) -> int:
    """Returns how many bytes of text a unit has: some hundred units, of at most `largest` where 4096 are enough."""
    return max(min(max(total // _FEW_UNITS, _MIN_UNIT_BYTES), largest), total // _MANY_UNITS)


def cuts(file: TextFile, unit_bytes: int) -> list[int]:
    """Returns places behind line ends, about unit_bytes apart; none in a file that cannot be read from the middle."""
    cuts: list[int] = []
    if file.path.lower().endswith(".gz") or file.size <= 2 * unit_bytes:
        return cuts
    with open(file.path, "rb") as stream:
        for target in range(unit_bytes, file.size - unit_bytes // 2, unit_bytes):
            if cuts and target <= cuts[-1]:
                continue
            stream.seek(target)
            if stream.readline(_MAX_SEEK).endswith(b"\n") and stream.tell() < file.size:
                cuts.append(stream.tell())
    return cuts


class OpenFiles:
    """Open files by path, the longest unused closed first: each holds a file descriptor.

    Args:
      open_file: opens a path; what it returns is closed when nobody holds it.
    """

    def __init__(self, open_file: Callable[[str], Any]):
        self._open_file = open_file
        self._lock = threading.Lock()
        self._open: collections.OrderedDict = collections.OrderedDict()

    def open(self, path: str) -> Any:
        """Returns the open file; any thread may ask."""
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
            if len(self._open) >= max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
                self._open.popitem(last=False)  # a thread that reads from it still holds it
            opened = self._open[path] = self._open_file(path)
            return opened
