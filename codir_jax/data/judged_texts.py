"""What a sentence encoder is judged by: files of two texts and a score, files of a text and a label.

Files whose names agree up to the first dot are one set: 2012.MSRpar.tsv and 2012.OnWN.tsv are "2012", since a year of
semantic textual similarity is scored over all its rows together.

Columns are found by their names (sentence1, sentence2, score; label, text). Where a table has no such names, of three
columns the one that holds numbers is the score, and of two the one with fewer different values is the label; a first
line is a header unless the score in it is a number.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from codir_jax.data.batch import DataError
from codir_jax.data.delimited import TABLE_SUFFIXES, Table, at, read_lines, read_table
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


def labelled_texts(spec: str) -> dict[str, LabelledTexts]:
    """Returns set name -> texts with their labels; `spec`, raises: as of `scored_pairs`."""
    problems: list[str] = []
    found: dict[str, LabelledTexts] = {}
    for path in [path for entry in _entries(spec) for path in _files(entry, "--clustering")]:
        rows = _read_labelled(path, problems)
        old = found.get(_set_name(path), LabelledTexts([], []))
        found[_set_name(path)] = LabelledTexts(*(a + b for a, b in zip(old, rows, strict=True)))
    for name, rows in found.items():
        if not problems and not 1 < len(set(rows.labels)) < len(rows.labels):
            problems.append(
                f"{name}: {len(set(rows.labels))} labels of {len(rows.labels)} texts; expected some classes"
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
        found = [inner for inner in sorted(path.iterdir()) if inner.suffix.lower() in TABLE_SUFFIXES]
    else:
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
    if not found:
        raise MissingFileError(f"{flag} {entry}: no such file, and no {', '.join(TABLE_SUFFIXES[:3])} by that pattern")
    return found


def _read_scored(path: Path, problems: list[str]) -> ScoredPairs:
    def score_column(table: Table, names: Sequence[str]) -> str | None:
        return next((name for name in names if all(map(_is_number, table.columns[name]))), None)

    chosen = _columns(path, ("sentence1", "sentence2", "score"), score_column, problems)
    if chosen is None:
        return ScoredPairs([], [], [])
    table, (first, second, score) = chosen
    firsts, seconds = check_texts(table, [first, second], problems)
    scores = parse_targets(table, table.columns[score], problems) or []
    return ScoredPairs(firsts, seconds, scores)


def _read_labelled(path: Path, problems: list[str]) -> LabelledTexts:
    def label_column(table: Table, names: Sequence[str]) -> str | None:
        return min(names, key=lambda name: len(set(map(str, table.columns[name]))))

    chosen = None
    for text in TEXTS:
        header = _first_row(path)
        if header is None or text in header or text == TEXTS[-1]:
            chosen = _columns(path, (text, "label"), label_column, problems)
            break
    if chosen is None:
        return LabelledTexts([], [])
    table, (text, label) = chosen
    texts, _ = check_texts(table, [text], problems)
    labels = ["" if value is None else str(value).strip() for value in table.columns[label]]
    problems += [at(path, line, "empty label") for line, name in zip(table.lines, labels, strict=True) if not name]
    return LabelledTexts(texts, labels)


def _columns(
    path: Path, wanted: tuple[str, ...], last_of: Callable[[Table, Sequence[str]], str | None], problems: list[str]
) -> tuple[Table, tuple[str, ...]] | None:
    """(table, its columns in the order of `wanted`); where they have other names, `last_of` finds the last one."""
    header = _first_row(path)
    if header is None or set(wanted) <= set(header):
        table = read_table(path, wanted, problems)
        return None if table is None else (table, wanted)
    if len(header) != len(wanted):
        told = f"columns are {', '.join(header)}; expected {', '.join(wanted)}, or {len(wanted)} columns of other names"
        problems.append(at(path, 1, told))
        return None
    has_header = not any(map(_is_number, header))
    names = (
        header if has_header and len(set(header)) == len(header) else [f"column {i + 1}" for i in range(len(header))]
    )
    table = read_table(path, names, problems, header=None if has_header else names)
    if table is None:
        return None
    last = last_of(table, names)
    if last is None:
        problems.append(at(path, 1, f"none of the columns {', '.join(names)} holds numbers only; one must be a score"))
        return None
    return table, (*(name for name in names if name != last), last)


def _first_row(path: Path) -> list[str] | None:
    """The fields of the first line of a table; None of JSON lines, whose fields have names, and of what is no table."""
    import csv

    suffix = path.suffix.lower()
    if suffix not in (".tsv", ".csv"):
        return None
    lines = read_lines(path, [])
    if lines is None:
        return None
    return lines[0].split("\t") if suffix == ".tsv" else next(csv.reader(lines[:1]), [])


def _is_number(value: object) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def check_specs(sts: str, clustering: str) -> None:
    """Refuses a call that names nothing to be judged by."""
    if not (_entries(sts) or _entries(clustering)):
        raise UserError("nothing to judge by: give --sts=FILES (two texts and a score) or --clustering=FILES")
