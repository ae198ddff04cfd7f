"""Shards of a corpus joined into splits: which chunks are whose, memory-mapped, made once by one process.

A split is a folder of four int32 [n] arrays, a row a chunk in corpus order:

    chunks.npy        chunk of the corpus: shard i holds chunks shard_offsets[i] .. shard_offsets[i + 1]
    document_ids.npy  document of the corpus, counted over all splits
    lengths.npy       tokens, specials included
    text_ids.npy      smallest row of the split with the same tokens (64-bit hashes are compared)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codir_jax.data.corpus import shards
from codir_jax.data.corpus.sources import Unit
from codir_jax.data.shards import equal_texts
from codir_jax.data.shards import folder as shard_folder
from codir_jax.processes import whole
from codir_jax.processes.user_error import MissingFileError, UserError

COLUMNS = ("chunks", "document_ids", "lengths", "text_ids")
FACTS_FILE = "splits.json"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the documents and chunks of each shard begin: int64 [num_units + 1] each."""

    document_offsets: np.ndarray
    chunk_offsets: np.ndarray
    num_documents: int
    num_tokens: int
    digest: str


def layout(units: Sequence[Unit], folder: Path) -> Layout:
    """Returns how the shards follow each other.

    Raises:
      MissingFileError: a shard is missing.
    """
    documents, chunks, num_tokens = 0, 0, 0
    document_offsets, chunk_offsets = [], [0]
    digest = hashlib.sha256()
    goes_on = False  # the last document may go on in the next shard
    for unit in units:
        facts = shard_folder.read_facts(folder, unit.name)
        if facts is None:
            raise MissingFileError(
                f"no whole shard {unit.name} in {folder}; processes that share a run must share data.cache_dir"
            )
        start = documents - (facts["continues"] and goes_on)
        document_offsets.append(start)
        documents = start + facts["num_documents"]
        chunks += facts["num_chunks"]
        chunk_offsets.append(chunks)
        num_tokens += facts["num_tokens"]
        goes_on = facts["is_open"] or (goes_on and not facts["has_boundary"])
        digest.update(facts["digest"].encode())
    if chunks >= 1 << 31:
        raise UserError(f"the corpus has {chunks} chunks, and ids go to 2^31 - 1; use a greater data.max_length")
    offsets = np.asarray([*document_offsets, documents], np.int64)
    return Layout(offsets, np.asarray(chunk_offsets, np.int64), documents, num_tokens, digest.hexdigest())


def held_out(num_documents: int, percent: float) -> np.ndarray:
    """Returns the documents that are held out, evenly spread: int64 [k], ascending, 1 <= k < num_documents."""
    count = min(max(1, round(num_documents * percent / 100)), num_documents - 1)
    return (2 * np.arange(count, dtype=np.int64) + 1) * num_documents // (2 * count)


def write(place: Path, units: Sequence[Unit], folder: Path, joined: Layout, dev_documents: np.ndarray | None) -> None:
    """Writes the splits "train" and "dev", or "all" where no documents are held out; `place` appears by a rename."""
    unfinished = place.with_name(f"{place.name}.{uuid.uuid4().hex}.tmp")
    with whole.full_disk_told(place.parent):
        unfinished.mkdir(parents=True)
        try:
            names = ("all",) if dev_documents is None else ("train", "dev")
            facts = {
                name: _write_split(unfinished / name, units, folder, joined, dev_documents, is_dev=name == "dev")
                for name in names
            }
            (unfinished / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
            os.rename(unfinished, place)
        except OSError:
            if not (place / FACTS_FILE).is_file():  # otherwise somebody else was quicker
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write_split(place: Path, units, folder: Path, joined: Layout, dev_documents, *, is_dev: bool) -> dict:
    place.mkdir()
    num_sources = 1 + max(unit.source for unit in units)
    count = sum(len(_kept(folder, unit, joined, dev_documents, is_dev)) for unit in units)
    columns = {name: shard_folder.new_array(place / f"{name}.npy", np.int32, (count,)) for name in COLUMNS}
    hashes = shard_folder.new_array(place / "hashes.npy", np.uint64, (count,))
    source_rows = [0] * num_sources
    start = num_tokens = 0
    for unit in units:
        rows = _kept(folder, unit, joined, dev_documents, is_dev)
        if not len(rows):
            continue
        table = np.load(folder / unit.name / shards.CHUNKS_FILE, mmap_mode="r")[rows]
        part = slice(start, start + len(rows))
        columns["chunks"][part] = joined.chunk_offsets[unit.index] + rows
        columns["document_ids"][part] = joined.document_offsets[unit.index] + table["document"]
        columns["lengths"][part] = table["length"]
        hashes[part] = table["text"]
        source_rows[unit.source] += len(rows)
        num_tokens += int(table["length"].sum())
        start += len(rows)
    equal_texts.numbers(hashes, columns["text_ids"], place)
    num_dev = 0 if dev_documents is None else len(dev_documents)
    for column in columns.values():
        column.flush()
    del hashes
    (place / "hashes.npy").unlink()
    return {
        "num_chunks": count,
        "num_documents": num_dev if is_dev else joined.num_documents - num_dev,
        "num_tokens": num_tokens - shards.NUM_SPECIAL * count,
        "source_rows": source_rows,
    }


def _kept(folder: Path, unit: Unit, joined: Layout, dev_documents, is_dev: bool) -> np.ndarray:
    """Chunks of the unit (from 0) that belong to the split: int32 [k]."""
    count = int(joined.chunk_offsets[unit.index + 1] - joined.chunk_offsets[unit.index])
    if dev_documents is None or not count:
        return np.arange(count, dtype=np.int32)
    table = np.load(folder / unit.name / shards.CHUNKS_FILE, mmap_mode="r")
    documents = joined.document_offsets[unit.index] + table["document"]
    return np.flatnonzero(np.isin(documents, dev_documents) == is_dev).astype(np.int32)
