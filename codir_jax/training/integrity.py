"""Whether a checkpoint is whole: sizes and checksums of its files, written into it before it appears under its name.

Orbax alone notices a missing or truncated file only where it comes to need it, on some process and not on others, and
a flipped byte only where the decompression trips over it.
"""

import json
import zlib
from pathlib import Path

MANIFEST = "manifest.json"
# Written by orbax after the manifest; it must be there and be JSON.
_LATE = "_CHECKPOINT_METADATA"
_READ_BYTES = 1 << 24


def write_manifest(folder: Path) -> None:
    """Writes the size and the CRC-32 of every file of a finished checkpoint into `folder`."""
    files = {str(path.relative_to(folder)): _describe(path) for path in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps({"files": files}), encoding="utf-8")


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where it is as it was written. Every byte is read."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    try:
        json.loads((folder / _LATE).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return f"{_LATE} cannot be read ({error})"
    for name, (size, crc) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        try:
            if _describe(path)[1] != crc:
                return f"{name} has another checksum than when it was written"
        except OSError as error:
            return f"{name} cannot be read ({error})"
    return None


def _files(folder: Path) -> list[Path]:
    late = (folder / _LATE, folder / MANIFEST)
    return sorted(path for path in folder.rglob("*") if path.is_file() and path not in late)


def _describe(path: Path) -> tuple[int, int]:
    """(size, CRC-32)."""
    crc = 0
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            crc = zlib.crc32(part, crc)
    return path.stat().st_size, crc
