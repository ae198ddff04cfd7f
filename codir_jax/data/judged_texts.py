"""What a sentence encoder is judged by: files of two texts and a score, files of a text and a label.

Files whose names agree up to the first dot are one set: 2012.MSRpar.tsv and 2012.OnWN.tsv are "2012", since a year of
semantic textual similarity is scored over all its rows together.

Columns are found by their names (sentence1, sentence2, score; label, text). Where a table has no such names, of three
columns the one that holds numbers is the score, and of two the one with fewer different values is the label. Its first
line is then a header unless it has a number for a score, or a label that comes again.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from codir_jax.data.compressed import kind_of
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import TABLE_SUFFIXES, Table, at, column_names, read_table
from codir_jax.data.table_columns import check_texts, parse_targets
from codir_jax.processes.user_error import MissingFileError, UserError

TEXTS = ("text", "sentence")


class ScoredPairs(NamedTuple):
    """A set of pairs of texts, and how alike people found them, n each."""

    firsts: list[str]
    seconds: list[str]
    scores: list[float]


class LabelledTexts(NamedTuple):
    """A set of texts, and the class of each, n each."""

    texts: list[str]
    labels: list[str]


def scored_pairs(spec: str, named: dict[str, Callable[[], ScoredPairs]]) -> dict[str, ScoredPairs]:
    """Returns set name -> pairs.

    Args:
      spec: comma-separated files, patterns and folders, or names.
      named: name -> reader of a set that is no file.

    Raises:
      UserError: nothing is there. DataError: with file and line of up to ten problems.
    """
    problems: list[str] = []
    found: dict[str, ScoredPairs] = {}
    for entry in _entries(spec):
        if entry in named and not Path(entry).exists():
            found[entry] = named[entry]()
            continue
        for path in _files(entry, "--sts"):
            rows = _read_scored(path, problems)
            old = found.get(_set_name(path), ScoredPairs([], [], []))
            found[_set_name(path)] = ScoredPairs(*(a + b for a, b in zip(old, rows, strict=True)))
    for name, rows in found.items():
        if not problems and len(set(rows.scores)) < 2:
            problems.append(f"{name}: all {len(rows.scores)} scores are the same; nothing to correlate with")
    if problems:
        raise DataError(problems)
    return found


def labelled_texts(spec: str, flag: str = "--clustering", at_least: int = 1) -> dict[str, LabelledTexts]:
    """Returns set name -> texts with their labels.

    Args:
      spec: comma-separated files, patterns and folders. flag: that it was given by.
      at_least: texts of every label.

    Raises:
      UserError: nothing is there. DataError: with file and line of up to ten problems.
    """
    problems: list[str] = []
    found: dict[str, LabelledTexts] = {}
    for path in [path for entry in _entries(spec) for path in _files(entry, flag)]:
        rows = _read_labelled(path, problems)
        old = found.get(_set_name(path), LabelledTexts([], []))
        found[_set_name(path)] = LabelledTexts(*(a + b for a, b in zip(old, rows, strict=True)))
    for name, rows in found.items():
        if not problems and not 1 < len(set(rows.labels)) < len(rows.labels):
            problems.append(
                f"{name}: {len(set(rows.labels))} labels of {len(rows.labels)} texts; expected some classes"
            )
        rarest, count = min(Counter(rows.labels).items(), key=lambda item: item[1], default=("", at_least))
        if not problems and count < at_least:
            problems.append(
                f"{name}: label {rarest!r} has {count} of {len(rows.labels)} texts; {flag} needs at least {at_least} "
                "of each, as it holds out one part after another"
            )
    if problems:
        raise DataError(problems)
    return found


def _entries(spec: str) -> list[str]:
    return [entry.strip() for entry in spec.split(",") if entry.strip()]


def _set_name(path: Path) -> str:
    name = path.name.partition(".")[0]
    # STS-B/dev.tsv says what it is by its folder.
    return f"{path.absolute().parent.name}/{name}" if name in ("train", "dev", "test") else name


def _files(entry: str, flag: str) -> list[Path]:
    path = Path(entry).expanduser()
    if path.is_dir():
        found = [inner for inner in sorted(path.iterdir()) if kind_of(inner) in TABLE_SUFFIXES]
    else:
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
    if not found:
        raise MissingFileError(f"{flag} {entry}: no such file, and no {', '.join(TABLE_SUFFIXES[:3])} by that pattern")
    return found


def _read_scored(path: Path, problems: list[str]) -> ScoredPairs:
    def find_score(table: Table) -> tuple[str | None, bool]:
        columns = table.columns
        # One row alone is no header.
        found = next((name for name in columns if all(map(_is_number, columns[name][1:] or columns[name]))), None)
        return found, found is not None and not _is_number(columns[found][0])

    chosen = _columns(path, ("sentence1", "sentence2", "score"), find_score, problems)
    if chosen is None:
        return ScoredPairs([], [], [])
    table, (first, second, score) = chosen
    firsts, seconds = check_texts(table, [first, second], problems)
    scores = parse_targets(table, table.columns[score], problems) or []
    return ScoredPairs(firsts, seconds, scores)


def _read_labelled(path: Path, problems: list[str]) -> LabelledTexts:
    def find_label(table: Table) -> tuple[str | None, bool]:
        columns = table.columns
        found = min(columns, key=lambda name: len(set(columns[name])))
        return found, columns[found][0] not in columns[found][1:]

    header = column_names(path, []) or []
    named = next((name for name in TEXTS if name in header), TEXTS[0])
    chosen = _columns(path, (named, "label"), find_label, problems)
    if chosen is None:
        return LabelledTexts([], [])
    table, (text, label) = chosen
    texts, _ = check_texts(table, [text], problems)
    labels = ["" if value is None else str(value).strip() for value in table.columns[label]]
    problems += [at(path, line, "empty label") for line, name in zip(table.lines, labels, strict=True) if not name]
    return LabelledTexts(texts, labels)


def _columns(
    path: Path,
    wanted: tuple[str, ...],
    find_last: Callable[[Table], tuple[str | None, bool]],
    problems: list[str],
) -> tuple[Table, tuple[str, ...]] | None:
    """(table, its columns in the order of `wanted`).

    Where they have other names, `find_last` says which one of a table is the last, and whether its first row is a
    header.
    """
    header = column_names(path, []) or []
    if not header or set(wanted) <= set(header) or kind_of(path) not in (".tsv", ".csv"):
        table = read_table(path, wanted, problems)
        return None if table is None else (table, wanted)
    if len(header) != len(wanted):
        told = f"columns are {', '.join(header)}; expected {', '.join(wanted)}, or {len(wanted)} columns of other names"
        problems.append(at(path, 1, told))
        return None
    names = [f"column {i + 1}" for i in range(len(header))]
    table = read_table(path, names, problems, header=names)
    if table is None or not table.lines:
        return None
    last, has_header = find_last(table)
    if last is None:
        problems.append(at(path, 1, f"none of the columns {', '.join(header)} holds numbers only; one must be a score"))
        return None
    if has_header:
        columns = {name: values[1:] for name, values in table.columns.items()}
        table = Table(path, table.lines[1:], columns)
    return table, (*(name for name in names if name != last), last)


def _is_number(value: object) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def check_specs(**specs: str) -> None:
    """Refuses a call that names nothing to be judged by, or a file twice; flag -> what it was given."""
    named = {flag: _entries(spec) for flag, spec in specs.items()}
    if not any(named.values()):
        raise UserError(
            "nothing to judge by: give --sts=FILES (two texts and a score), --clustering=FILES or "
            "--classification=FILES (a text and a label)"
        )
    for flag, entries in named.items():
        if twice := sorted({entry for entry in entries if entries.count(entry) > 1}):
            raise UserError(f"--{flag} names {twice[0]} twice; its texts would count double")
