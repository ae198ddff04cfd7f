"""Files that may be gzip-compressed: read as a stream, nothing is unpacked on the disk.

What a file holds is told by its name: `nli.tsv.gz` is the table `nli.tsv`. Such a file cannot be read from the middle,
so one process reads it from its beginning. A small file may unpack to more than a machine holds: reading stops where
what came out is out of proportion.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import IO

SUFFIX = ".gz"
# Text is packed to a third or a tenth, a table of few words to a thirtieth; gzip can pack a thousandfold.
_MOST_TIMES = 100
# That any file may unpack to.
_FREE_BYTES = 64 << 20
TOO_MUCH = (
    f"unpacks to more than {_MOST_TIMES} times its size, as no ordinary text does; if you trust it, unpack it first "
    "and give what came out"
)


class TooMuchError(Exception):
    """A file unpacks to more than its size lets expect."""


# What reading a damaged one raises.
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, TooMuchError)
_MAGIC = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 18


def is_compressed(path: str | Path) -> bool:
    """Returns whether the name says so."""
    return str(path).lower().endswith(SUFFIX)


def kind_of(path: str | Path) -> str:
    """Returns the suffix that tells what a file holds, in lower case: ".tsv" of "nli.tsv.gz"; "" where none does."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()


def open_bytes(path: str | Path) -> IO[bytes]:
    """Returns the content as a binary stream; the caller closes it. Reading from it may raise one of `BROKEN`."""
    return io.BufferedReader(_Unpacked(path), _BUFFER_BYTES) if is_compressed(path) else open(path, "rb")


def most_bytes(path: str | Path) -> int:
    """Returns how many bytes a compressed file may unpack to."""
    return max(_FREE_BYTES, _MOST_TIMES * Path(path).stat().st_size)


class _Unpacked(io.RawIOBase):
    """The content of a .gz, as far as it is in proportion to the file."""

    def __init__(self, path: str | Path):
        super().__init__()
        self._left = most_bytes(path)
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed by `close`

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise TooMuchError
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def what_is_wrong(path: str | Path, error: Exception) -> str:
    """Returns in words why a file whose name ends in .gz cannot be read.

    Args:
      error: one of `BROKEN`.
    """
    if isinstance(error, TooMuchError):
        return TOO_MUCH
    if isinstance(error, EOFError):
        return "the gzip file is cut short; fetch or write it again"
    with open(path, "rb") as file:
        is_gzip = file.read(2) == _MAGIC
    if is_gzip:
        return f"the gzip file is damaged ({error}); fetch or write it again"
    return f"is named {SUFFIX} and is not gzip-compressed; rename it without {SUFFIX}"


def hint(path: str | Path, start: bytes) -> str:
    """Returns "; ..." where the first bytes of a file that cannot be decoded are those of a gzip file, else ""."""
    named = "" if is_compressed(path) else f"; it is gzip-compressed: name it {Path(path).name}{SUFFIX}"
    return named if start.startswith(_MAGIC) else ""
