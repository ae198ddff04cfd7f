"""Whether a checkpoint is whole: sizes and checksums of its files, written into it before it appears under its name.

Orbax alone notices a missing or truncated file only where it comes to need it, on some process and not on others, and
a flipped byte only where the decompression trips over it.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
# Written by orbax after the manifest; it must be there and be JSON.
_LATE = "_CHECKPOINT_METADATA"
_READ_BYTES = 1 << 24


def write_manifest(folder: Path) -> None:
    """Writes the step, and the size and the CRC-32 of every file, of a finished checkpoint into `folder`.

    Args:
      folder: STEP, or STEP.* as long as it is being written.
    """
    files = {str(path.relative_to(folder)): _describe(path) for path in _files(folder)}
    text = json.dumps({"step": int(folder.name.partition(".")[0]), "files": files})
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where it is as it was written. Every byte is read."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (ValueError, RecursionError, OSError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    if reason := _misfit(told, folder):
        return f"{MANIFEST} {reason}"
    try:
        json.loads((folder / _LATE).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return f"{_LATE} cannot be read ({error})"
    for name, (size, crc) in told["files"].items():
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


def _misfit(told: Any, folder: Path) -> str | None:
    """Why a manifest cannot be that of this folder; None where it can."""
    files = told.get("files") if isinstance(told, dict) else None
    if not isinstance(files, dict) or not files:
        return "lists no files"
    for name, entry in files.items():
        is_pair = isinstance(entry, list) and len(entry) == 2 and all(type(number) is int for number in entry)
        if not is_pair or os.path.isabs(name) or ".." in Path(name).parts:
            return f"has an entry that is no size and checksum of a file in the folder: {name!r}"
    if (step := told.get("step")) != int(folder.name):
        return f"is of step {step}, and the folder is of step {folder.name}"
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
