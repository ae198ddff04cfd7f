"""Labels of a table as classes: which values may be one, what a set of names or of scores betrays, what dev shares.

The same functions judge a table in memory and one that is read in parts (`data/on_disk`): parts are joined by what they
know of their labels.
"""

from __future__ import annotations

import collections
import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from codir_jax.data.delimited import Table, at
from codir_jax.processes import console, json_text
from codir_jax.processes.user_error import UserError

# So few may stand in a file of any size.
_FEW_CLASSES = 20
_LONG_NAME = 10_000  # of a class, in characters
# Of more digits Python makes no number, and no class has a name so long.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


# What may part the names of several labels in a cell.
SEPARATORS = ("|", ";", ",")
_SEVERAL = "for several labels a text: data.is_multi_label=True, --multi_label"


def class_name(value) -> str:
    """Returns the name of a label as a file holds it: a text, a number, True; "" where there is none."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def listed_names(text: str) -> tuple[str, ...]:
    """Returns the class names that `data.label_names` lists: parted by commas, or a JSON list where one has a comma.

    Raises:
      UserError: it begins as a list and is none of names.
    """
    if not text.lstrip().startswith("["):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    try:
        names = json_text.parse(text)
    except json_text.JsonError as error:
        raise UserError(f'data.label_names begins as a JSON list and is {error}; expected ["one", "two"]') from error
    if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
        raise UserError(f"data.label_names holds {wrong[0]!r}; expected names of classes")
    return tuple(name.strip() for name in names)


def list_names(names: Iterable[str]) -> str:
    """Returns class names as `listed_names` reads them."""
    names = list(names)
    is_plain = all("," not in name and not name.startswith("[") for name in names)
    return ",".join(names) if is_plain else json.dumps(names, ensure_ascii=False)


def order_names(names: Collection[str]) -> tuple[str, ...]:
    """The names of classes in the order of their numbers: as numbers if all are whole numbers, else as text."""
    is_numeric = all(map(_WHOLE_NUMBER.fullmatch, names))
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if is_numeric else None))


def kinds(values: Iterable) -> list[str]:
    """Returns the names of the types of labels that there are, sorted; one that is empty has none."""
    return sorted({type(value).__name__ for value in values if value is not None and value != ""})


def check_kinds(table: Table, values: Iterable, problems: list[str]) -> None:
    """Tells of labels that are no names: lists, objects, half characters, and of numbers beside texts."""
    found: dict[str, int] = {}
    for line, value in zip(table.lines, values, strict=False):
        if value is None:
            continue
        if not isinstance(value, str | int | float):
            told = f"label {str(value)[:40]!r} is a {type(value).__name__}; expected a name"
            told += f" ({_SEVERAL})" * isinstance(value, list)
            problems.append(at(table.path, line, told))
            continue
        if isinstance(value, str) and len(value) > _LONG_NAME:
            told = f"label of {len(value):,} characters; expected a name: is data.label_column (--label_column) right?"
            problems.append(at(table.path, line, told))
        if isinstance(value, str) and not json_text.is_unicode(value):
            problems.append(at(table.path, line, "broken encoding in the label: half a surrogate pair"))
        if value != "" and type(value).__name__ not in found:
            found[type(value).__name__] = line
            if len(found) == 2:
                one, other = found
                told = f"label {value!r} is of type {other}, those before of type {one}; expected one type of labels"
                problems.append(at(table.path, line, told))


def doubt_of_joined(names: Collection[str]) -> str:
    """Returns what a class betrays that joins others, "" for nothing: its parts are classes or parts of others, too.

    Parts that a comma joins count only where they stand alone elsewhere: "Albany, NY" is one class.
    """
    for separator in SEPARATORS:
        parts_of = {name: [part.strip() for part in name.split(separator)] for name in names if separator in name}
        uses = collections.Counter(part for parts in parts_of.values() for part in set(parts) if separator != ",")
        for name, parts in parts_of.items():
            if all(part and (part in names or uses[part] > 1) for part in parts):
                return (
                    f"the label {name!r} joins labels that others have too: {', '.join(map(repr, parts))} ({_SEVERAL}; "
                    "to keep it as one class set data.label_names to all their names)"
                )
    return ""


def doubt_of_names(names: Sequence[str], num_rows: int) -> str:
    """Returns what the classes that were found in `num_rows` rows of train betray, "" for nothing."""
    if not names:
        return "no row has a label; is data.label_column (--label_column) the column of the labels?"
    if len(names) == 1:
        return f"only one class, {names[0]!r}; expected at least two"
    if len(names) > 2 and all(map(_is_number, names)) and not all(name.lstrip("+-").isdecimal() for name in names):
        return (
            f"the labels are numbers such as {names[0]}: for scores set data.is_regression=True (--regression), for "
            "classes data.label_names to their names"
        )
    if len(names) > max(_FEW_CLASSES, num_rows // 2):
        return (
            f"{len(names):,} classes in {num_rows:,} rows; is data.label_column (--label_column) the column of "
            "the labels, or are they scores (--regression)? To keep them set data.label_names to all their names"
        )
    return ""


def doubt_of_scores(lowest: float, highest: float) -> str:
    """Returns what the range of the scores of train betrays, "" for nothing."""
    return f"all scores are {lowest}; nothing to learn" if lowest == highest else ""


def without_example(names: Sequence[str], present: Collection[str]) -> list[str]:
    """Returns a sentence for each class that no row of train has."""
    return [f"class {name!r} has no example in train" for name in names if name not in present]


def tell_of_lone(path: Path, lines: Sequence[int], labels: Sequence[int], label_names: Sequence[str]) -> None:
    """Says which classes have one row of train, and where: no other text belongs to it.

    Args:
      lines: of the rows, numbers from 1. labels: class numbers.
    """
    counts = collections.Counter(labels)
    alone = [(label_names[label], line) for line, label in zip(lines, labels, strict=True) if counts[label] == 1]
    if alone:
        first = ", ".join(f"{name!r} (line {line})" for name, line in alone[:3]) + ", ..." * (len(alone) > 3)
        console.note(
            f"{path}: {len(alone):,} of {len(label_names):,} classes have one text only: {first}; little is "
            "learnt of such a class, and a contrast by class finds no other text for it"
        )


def tell_of_judged(path: Path, labels: Sequence, label_names: Sequence[str]) -> None:
    """Says where a score on the rows of a dev or test file tells nothing, because all have one label.

    Args:
      labels: class numbers, tuples of 0 and 1 or, with no label_names, scores; None where a row has none.
    """
    present = set(labels) - {None}
    if len(present) != 1:
        return
    only, count = present.pop(), sum(label is not None for label in labels)
    if isinstance(only, tuple):
        told = "same classes, and always to answer those is right on all of them"
    elif not label_names:
        told = f"score {only:g}, and with it correlations are 0 or without meaning"
    else:
        told = f"class {label_names[only]!r}, and always to answer that is right on all of them"
    rows = "the one row has" if count == 1 else f"all {count:,} rows have"
    console.note(f"{path}: {rows} the {told}; a score on them tells nothing")


def tell_overlap(path: Path, lines: Sequence[int], is_in_train: Iterable[bool]) -> None:
    """Says how many rows of a dev or test file are in train too, and on which lines the first are."""
    shared = [line for line, is_known in zip(lines, is_in_train, strict=True) if is_known]
    if shared:
        first = ", ".join(map(str, shared[:3]))
        console.note(
            f"{len(shared):,} of {len(lines):,} texts of {path} are also in train, first in line {first}: scores "
            "on them are too good"
        )


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False
