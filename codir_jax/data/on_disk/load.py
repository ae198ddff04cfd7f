"""A streamed train split, tokenised once by all processes into shards, and read from them ever after."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codir_jax.data.data_error import DataError
from codir_jax.data.on_disk import joined as joined_lib
from codir_jax.data.on_disk import shard
from codir_jax.data.on_disk.encoding import Encoding, encoding_of
from codir_jax.data.on_disk.examples import StoredExamples
from codir_jax.data.on_disk.streamed import Streamed
from codir_jax.data.shards import folder as shard_folder
from codir_jax.data.shards import preparation
from codir_jax.data.shards.preparation import Together
from codir_jax.data.splits import RawSplit
from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError

# Part of the cache key: count up when the reading or the layout of rows changes.
_VERSION = 4
_SHARDS_FILE = "shards.json"


class Loaded(NamedTuple):
    """A train split on disk.

    Attributes:
      examples: its rows. label_names: of the classes in order. num_truncated: of its texts.
      column_names: further column -> its sorted texts, () for numbers.
      has_rows: rows of another split -> bool [n], which have the texts of a labelled row here, of those not drawn too.
    """

    examples: StoredExamples
    label_names: tuple[str, ...]
    num_truncated: int
    column_names: dict[str, tuple[str, ...]]
    has_rows: Callable[[RawSplit], np.ndarray]


def load(
    streamed: Streamed,
    tokenizer,
    *,
    max_length: int,
    num_train_examples: int,
    seed: int,
    root: Path,
    together: Together = preparation.ALONE,
) -> Loaded:
    """Returns the split, tokenised now or taken from a folder below `root`; every process calls it.

    Args:
      streamed: the split.
      tokenizer: fast transformers tokenizer.
      max_length: tokens of an example at most, specials included.
      num_train_examples: labelled rows to keep, drawn by `seed`; 0 keeps all.
      root: that all processes see.
      together: the processes.

    Raises:
      DataError: with file and line of up to ten problems.
      UserError: the draw leaves a class without an example.
    """
    together.require_shared(root)
    encoding = encoding_of(tokenizer, max_length, is_pair=streamed.is_pair)
    key = json.dumps([_VERSION, streamed.identity, dataclasses.astuple(encoding)]).encode()
    folder = root / f"rows-{hashlib.sha256(key).hexdigest()[:16]}"
    name = f"train-{num_train_examples}-of-{seed}" if num_train_examples else "train"

    counts = _counts(folder)
    if counts is None or not _is_whole(folder, name, sum(counts)):
        labelled, unlabelled = streamed.units()
        write = functools.partial(shard.write, encoding=encoding, is_regression=streamed.is_regression)
        problems = preparation.shared([*labelled, *unlabelled], write, folder, together)
        counts = len(labelled), len(unlabelled)
        is_ready = False
    else:
        problems = preparation.shared([], shard.write, folder, together, is_ready=True)
        is_ready = True
    if problems:
        raise DataError(problems)
    joined = joined_lib.join(streamed, folder, *counts)
    if together.index == 0 and not is_ready:
        joined_lib.write(streamed, joined, folder, name, num_train_examples, seed)
        shard_folder.clean(folder)
        whole.write_text(folder / _SHARDS_FILE, json.dumps(counts))
        together.tell(f"train: {joined.total('num_rows'):,} texts, {joined.total('num_tokens'):,} tokens in {folder}")
    together.barrier(f"{folder.name} joined")
    facts = shard_folder.read_facts(folder, name)
    if facts is None:
        raise UserError(f"no whole {folder / name}; processes that share a run must share data.cache_dir")
    if facts["missing"]:
        raise UserError(
            f"num_train_examples={num_train_examples} of {facts['num_drawn_from']} leaves no example of "
            f"{', '.join(facts['missing'])}; use more"
        )
    return Loaded(
        _examples(streamed, joined, encoding, folder, name, facts),
        joined.label_names,
        facts["num_truncated"],
        joined.column_names,
        functools.partial(joined_lib.has_rows, folder, counts[0]),
    )


def _examples(streamed: Streamed, joined, encoding: Encoding, folder: Path, name: str, facts: dict) -> StoredExamples:
    return StoredExamples(
        place=folder / name,
        shards=tuple(folder / f"unit-{i:05d}" for i in range(len(joined.facts))),
        starts=joined.starts,
        facts=facts,
        dtype=np.dtype(encoding.dtype),
        has_types=encoding.has_types,
        column_names=tuple(joined.column_names),
    )


def _counts(folder: Path) -> tuple[int, int] | None:
    """(shards with labels, shards without), None where that is not known yet."""
    try:
        labelled, unlabelled = json.loads((folder / _SHARDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return labelled, unlabelled


def _is_whole(folder: Path, name: str, num_shards: int) -> bool:
    """Whether the split and all its shards have the sizes that they were written with."""
    return shard_folder.are_whole(folder, [name, *(f"unit-{i:05d}" for i in range(num_shards))])
