"""A shard: a folder of files that appears whole or not at all, with its facts and the sizes of its files.

    unit.json    what the writer tells of the shard, and "sizes": file -> bytes

A shard whose files have other sizes than it was written with (a power cut can leave an empty one) does not count, and
is written again.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from codir_jax.processes import whole

FACTS_FILE = "unit.json"


def read_facts(folder: Path, name: str) -> dict | None:
    """Returns the facts of a shard, or None where there is no whole one."""
    place = folder / name
    try:
        facts = json.loads((place / FACTS_FILE).read_text(encoding="utf-8"))
        sizes = {file: (place / file).stat().st_size for file in facts["sizes"]}
    except (OSError, ValueError, KeyError):
        return None
    return facts if sizes == facts["sizes"] else None


def are_whole(folder: Path, names: Iterable[str]) -> bool:
    """Returns whether all of these shards are there, with the sizes that they were written with."""
    return all(read_facts(folder, name) is not None for name in names)


def write(folder: Path, name: str, fill: Callable[[Path], dict | list[str]]) -> list[str]:
    """Makes the shard `folder`/name unless somebody else is quicker.

    Args:
      fill: writes the files into the folder that it is given; returns the facts, JSON values, or a list of problems.

    Returns:
      The problems; with any, nothing is written.

    Raises:
      CannotWriteError: a full or read-only disk.
    """
    final = folder / name
    unfinished = folder / f"{name}.{uuid.uuid4().hex}.tmp"
    with whole.full_disk_told(folder):
        try:
            unfinished.mkdir(parents=True)
            facts = fill(unfinished)
            if isinstance(facts, list):
                return facts
            sizes = {file.relative_to(unfinished).as_posix(): file.stat().st_size for file in _files(unfinished)}
            (unfinished / FACTS_FILE).write_text(json.dumps({**facts, "sizes": sizes}), encoding="utf-8")
            if final.exists() and read_facts(folder, name) is None:  # a torn one
                shutil.rmtree(final, ignore_errors=True)
            try:
                os.rename(unfinished, final)
            except OSError:
                if read_facts(folder, name) is None:  # otherwise somebody else was quicker
                    raise
            return []
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def new_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """An .npy file to be filled through memory, whose room on the disk is taken now.

    A page that the disk has no room for would end the process by a signal, and so would one of a file that another
    array is made over.

    Raises:
      FileExistsError: the file is there already.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; two arrays of one name?")
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(path.stat().st_size, 1))
    return array


def clean(folder: Path) -> None:
    """Removes locks and unfinished shards that stopped runs left, where all shards are whole by now."""
    for path in folder.glob("unit-*"):
        if path.name.endswith(".lock"):
            path.unlink(missing_ok=True)
        elif path.name.endswith(".tmp"):
            shutil.rmtree(path, ignore_errors=True)


def _files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]
