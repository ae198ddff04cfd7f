"""Shards of rows joined into a train split: which bytes each row has, its class and its text, made once by one process.

rows.npy           JOINED [n], a row an example: those with labels, then those without
lengths.npy        uint16 or int32 [n], tokens of the row
column-NAME.npy    [n, ...], a further column
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codir_jax.data import table_labels
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import at
from codir_jax.data.on_disk import shard
from codir_jax.data.on_disk.streamed import Streamed
from codir_jax.data.shards import equal_texts
from codir_jax.data.shards import folder as shard_folder
from codir_jax.data.shuffle import drawn
from codir_jax.data.splits import RawSplit
from codir_jax.processes.user_error import MissingFileError, UserError

ROWS_FILE, LENGTHS_FILE = "rows.npy", "lengths.npy"


def joined_dtype(is_regression: bool) -> np.dtype:
    """Of a row: first byte over all shards and bytes of its record, smallest row with the same texts, label."""
    return np.dtype(
        [("start", "<i8"), ("size", "<i4"), ("text_id", "<i4"), ("label", "<f4" if is_regression else "<i4")]
    )


@dataclasses.dataclass(frozen=True)
class Joined:
    """What the shards hold together.

    Attributes:
      facts: of each shard. num_labelled: of the shards whose rows a draw chooses from; they come first.
      label_names: of the classes in order. column_names: further column -> its sorted texts, () for numbers.
      starts: int64 [shards + 1], first byte of each.
    """

    facts: Sequence[dict]
    num_labelled: int
    label_names: tuple[str, ...]
    column_names: dict[str, tuple[str, ...]]
    starts: np.ndarray

    @property
    def digest(self) -> str:
        """sha256 hex of all shards."""
        return hashlib.sha256(" ".join(fact["digest"] for fact in self.facts).encode()).hexdigest()

    def total(self, name: str, num: int | None = None) -> int:
        """Sum of a fact over all shards, or over the first `num`."""
        return sum(fact[name] for fact in self.facts[:num])


def join(streamed: Streamed, folder: Path, num_labelled: int, num_unlabelled: int) -> Joined:
    """Returns what the shards of a folder hold together; the same on every process.

    Raises:
      MissingFileError: a shard is missing.
      DataError: a class without a row, labels that betray a wrong column, a column of numbers and of texts.
      UserError: more rows than ids.
    """
    facts = []
    for i in range(num_labelled + num_unlabelled):
        found = shard_folder.read_facts(folder, f"unit-{i:05d}")
        if found is None:
            raise MissingFileError(
                f"no whole shard unit-{i:05d} in {folder}; processes that share a run must share data.cache_dir"
            )
        facts.append(found)
    label_names, doubts = _labels(streamed, facts[:num_labelled])
    problems = [at(streamed.source, None, doubt) for doubt in doubts if doubt]
    column_names = {}
    for column in facts[0]["columns"]:
        known = [fact["columns"][column]["names"] for fact in facts]
        texts = [names for names in known if names is not None]
        if texts and len(texts) < len(known):
            told = f"{texts[0][0]!r} in column {column!r} is not a finite number, and other rows hold numbers"
            problems.append(at(streamed.source, None, f"{told}; a column holds numbers only or none"))
        column_names[column] = tuple(sorted({name for names in texts for name in names}))
    if problems:
        raise DataError(problems)
    starts = np.cumsum([0, *(fact["num_bytes"] for fact in facts)])
    found = Joined(facts, num_labelled, label_names, column_names, starts)
    if (num_rows := found.total("num_rows")) >= (1 << 31) - 1:
        raise UserError(f"the train split has {num_rows} rows, and ids go to 2^31 - 2; leave some out")
    return found


def _labels(streamed: Streamed, facts: Sequence[dict]) -> tuple[tuple[str, ...], list[str]]:
    """(the classes in order, what the labels of all parts together betray)."""
    if streamed.is_regression:
        ends = [end for fact in facts for end in fact["label_range"]]
        return (), [table_labels.doubt_of_scores(min(ends), max(ends))] if ends else []
    if facts and not any(fact["has_labels"] for fact in facts):  # a set of texts alone
        return (), []
    present = {name for fact in facts for name in fact["label_names"]}
    kinds = sorted({kind for fact in facts for kind in fact["label_kinds"]})
    if len(kinds) > 1:
        return (), [f"labels are of the types {' and '.join(kinds)}; expected one type of labels"]
    if streamed.label_names:
        return streamed.label_names, table_labels.without_example(streamed.label_names, present)
    names = table_labels.order_names(present)
    doubt = table_labels.doubt_of_joined(names)
    return names, [doubt or table_labels.doubt_of_names(names, sum(fact["num_rows"] for fact in facts))]


def has_rows(folder: Path, num_labelled: int, rows: RawSplit) -> np.ndarray:
    """Returns which rows have the texts of a row in the first shards, bool [n]; one shard is in memory at a time."""
    asked, place_of_row = np.unique(shard.hashes(rows), return_inverse=True)
    is_there = np.zeros(len(asked), bool)
    for index in range(num_labelled if len(asked) else 0):
        found = np.load(folder / f"unit-{index:05d}" / shard.ROWS_FILE, mmap_mode="r")["hash"]
        places = np.minimum(np.searchsorted(asked, found), len(asked) - 1)
        is_there[places[asked[places] == found]] = True
    return is_there[place_of_row]


def write(streamed: Streamed, joined: Joined, folder: Path, name: str, num_train_examples: int, seed: int) -> None:
    """Writes the train split `folder`/name.

    Args:
      num_train_examples: labelled rows to keep, drawn by `seed`, in their order; 0 keeps all.
    """
    num_drawn_from = joined.total("num_rows", joined.num_labelled)
    kept = None
    if 0 < num_train_examples < num_drawn_from:
        kept = drawn(num_drawn_from, num_train_examples, seed)
    shard_folder.write(folder, name, functools.partial(_fill, streamed, joined, folder, kept))


def _fill(streamed: Streamed, joined: Joined, folder: Path, kept: np.ndarray | None, place: Path) -> dict:
    num_drawn_from = joined.total("num_rows", joined.num_labelled)
    count = joined.total("num_rows") - (0 if kept is None else num_drawn_from - len(kept))
    longest = max(fact["longest"] for fact in joined.facts)
    rows = shard_folder.new_array(place / ROWS_FILE, joined_dtype(streamed.is_regression), (count,))
    lengths = shard_folder.new_array(place / LENGTHS_FILE, np.uint16 if longest < 1 << 16 else np.int32, (count,))
    hashes = shard_folder.new_array(place / "hashes.npy", np.uint64, (count,))
    columns = {name: _column(place, name, joined, count) for name in joined.column_names}
    number = {name: i for i, name in enumerate(joined.label_names)}
    start = first = num_labelled = num_tokens = num_truncated = 0
    present: set[int] = set()
    for index, fact in enumerate(joined.facts):
        source = folder / f"unit-{index:05d}"
        table = np.load(source / shard.ROWS_FILE)
        chosen = np.arange(len(table))
        if kept is not None and index < joined.num_labelled:
            low, high = np.searchsorted(kept, [first, first + len(table)])
            chosen = kept[low:high] - first
        first += len(table)
        part = slice(start, start + len(chosen))
        start = part.stop
        starts = np.cumsum(table["size"], dtype=np.int64) - table["size"]
        table = table[chosen]
        rows["start"][part], rows["size"][part] = joined.starts[index] + starts[chosen], table["size"]
        lengths[part], hashes[part] = table["length"], table["hash"]
        num_tokens += int(table["length"].sum(dtype=np.int64))
        num_truncated += int(table["cut"].sum())
        if fact["has_labels"]:
            labels = table["label"]
            if not streamed.is_regression:
                labels = np.asarray([number[name] for name in fact["label_names"]])[labels.astype(np.int64)]
                present |= set(np.unique(labels).tolist())
            rows["label"][part] = labels
            num_labelled += len(chosen)
        for name, column in columns.items():
            values = np.load(source / shard.column_file(name))[chosen]
            if names := fact["columns"][name]["names"]:
                values = np.searchsorted(joined.column_names[name], names).astype(np.int32)[values]
            column[part] = values
    equal_texts.numbers(hashes, rows["text_id"], place)
    for array in (rows, lengths, *columns.values()):
        array.flush()
    del hashes
    (place / "hashes.npy").unlink()
    return {
        "num_rows": count,
        "num_labelled": num_labelled,
        "num_drawn_from": num_drawn_from,
        "num_tokens": num_tokens,
        "num_truncated": num_truncated,
        "longest": longest,
        "missing": [name for name, i in number.items() if num_labelled and i not in present],
        "digest": hashlib.sha256(f"{joined.digest} {'' if kept is None else _digest(kept)}".encode()).hexdigest(),
    }


def _column(place: Path, name: str, joined: Joined, count: int) -> Any:
    """An empty column: of the type that holds what all shards have."""
    found = [fact["columns"][name] for fact in joined.facts]
    dtype = np.result_type(*(np.dtype(one["dtype"]) for one in found))
    dtype = np.dtype(np.float32 if dtype.kind == "f" else np.int32)
    return shard_folder.new_array(place / shard.column_file(name), dtype, (count, *found[0]["shape"]))


def _digest(kept: np.ndarray) -> str:
    return hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()
