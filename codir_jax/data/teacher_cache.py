"""Teacher outputs on the train set: computed once, kept on disk under a fingerprint, shared by all runs that fit."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np


def fingerprint(**parts: object) -> str:
    """sha256 hex of everything the outputs depend on: teacher weights, data, layers, pooling, dtype."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_or_compute(cache_dir: str, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays kept under `key`, memory-mapped; computed and written first where they are not there.

    Args:
      cache_dir: folder of all caches.
      key: from `fingerprint`; another key never reads this cache.
      compute: returns name -> float32 [num_train, ...].

    The folder appears whole or not at all: it is written aside and renamed, so a killed run leaves no half of it.
    """
    folder = Path(cache_dir).expanduser() / key
    if not folder.is_dir():
        aside = folder.with_name(f"{key}.{os.getpid()}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, values in compute().items():
            np.save(aside / f"{name}.npy", values)
        try:
            aside.rename(folder)
        except OSError:  # another run was faster; its arrays are the same
            shutil.rmtree(aside, ignore_errors=True)
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
