"""Which rows have equal texts, by 64-bit hashes, in memory that does not grow with the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codir_jax.data.shards import folder as shard_folder

# Hashes that are compared in memory at a time: 2^22 are some 150 MB while it lasts.
_HASHES_AT_ONCE = 1 << 22


def numbers(hashes: np.ndarray, out: np.ndarray, scratch: Path, *, at_once: int = _HASHES_AT_ONCE) -> None:
    """Fills `out` with the smallest row of an equal hash, in flat memory.

    Args:
      hashes: uint64 [n], may be memory-mapped.
      out: int32 [n], may be memory-mapped.
      scratch: folder for a temporary file, used where n > at_once.
      at_once: hashes held in memory at a time, about.
    """
    count = len(hashes)
    if count <= at_once:
        out[:] = _smallest_equal(np.asarray(hashes), np.arange(count))
        return
    # Equal hashes share their top bits: rows are sorted by those into buckets, and each is done in memory.
    bits = max(1, int(np.ceil(np.log2(2 * count / at_once))))
    blocks = [slice(start, start + at_once) for start in range(0, count, at_once)]
    sizes = sum(np.bincount(_bucket(hashes[block], bits), minlength=1 << bits) for block in blocks)
    ends = np.cumsum(sizes)
    cursor = ends - sizes
    path = scratch / "rows-by-hash.npy"
    rows = shard_folder.new_array(path, np.int32, (count,))
    for block in blocks:
        buckets = _bucket(hashes[block], bits)
        order = np.argsort(buckets, kind="stable")
        filled = np.bincount(buckets, minlength=1 << bits)
        for bucket, part in enumerate(np.split(order, np.cumsum(filled)[:-1])):
            rows[cursor[bucket] : cursor[bucket] + len(part)] = part + block.start
            cursor[bucket] += len(part)
    for start, end in zip(ends - sizes, ends, strict=True):
        part = np.asarray(rows[start:end])  # ascending
        out[part] = _smallest_equal(np.asarray(hashes[part]), part)
    del rows
    path.unlink()


def _bucket(hashes: np.ndarray, bits: int) -> np.ndarray:
    return (np.asarray(hashes) >> np.uint64(64 - bits)).astype(np.int64)


def _smallest_equal(hashes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return rows[first[inverse]]
