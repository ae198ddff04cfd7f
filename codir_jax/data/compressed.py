"""Files that may be gzip-compressed: read as a stream, nothing is unpacked on the disk.

What a file holds is told by its name: `nli.tsv.gz` is the table `nli.tsv`. Such a file cannot be read from the middle,
so one process reads it from its beginning.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO

SUFFIX = ".gz"
# What reading a damaged one raises.
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
_MAGIC = b"\x1f\x8b"


def is_compressed(path: str | Path) -> bool:
    """Returns whether the name says so."""
    return str(path).lower().endswith(SUFFIX)


def kind_of(path: str | Path) -> str:
    """Returns the suffix that tells what a file holds, in lower case: ".tsv" of "nli.tsv.gz"; "" where none does."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()


def open_bytes(path: str | Path) -> IO[bytes]:
    """Returns the content as a binary stream; the caller closes it. Reading from it may raise one of `BROKEN`."""
    return gzip.open(path, "rb") if is_compressed(path) else open(path, "rb")


def what_is_wrong(path: str | Path, error: Exception) -> str:
    """Returns in words why a file whose name ends in .gz cannot be read.

    Args:
      error: one of `BROKEN`.
    """
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
