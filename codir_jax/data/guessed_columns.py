"""Which columns of a user's table hold the texts and the labels, found by their names and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from codir_jax.data.delimited import nearest
from codir_jax.processes.user_error import UserError

# The first that is there is taken.
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
TEXTS = ("sentence", "text")
LABELS = ("label", "labels")
# One of them is taken; of several the user says which.
OTHER_TEXTS = ("review", "content", "body", "comment", "tweet", "message", "document", "query", "question", "utterance")
OTHER_LABELS = ("class", "category", "target", "topic", "intent", "sentiment", "rating", "stars", "score", "emotion")
# Of a column that is known by no name: words of a text; distinct values of a class, at most so many and a quarter of
# the rows.
_LEAST_WORDS, _MOST_CLASSES = 3, 100
_VALUE_TOLD = 40


class Columns(NamedTuple):
    """Names of columns; text_pair is "" for single texts."""

    text: str
    text_pair: str
    label: str


def guess(columns: Mapping[str, Sequence], text: str = "", text_pair: str = "", label: str = "") -> Columns:
    """Returns the columns; those that are given stay.

    Args:
      columns: name -> values of some rows.
      text, text_pair, label: as the user names them, or "".

    Raises:
      UserError: a given one is not there, or they cannot be told apart; columns are shown with a value.
    """
    for flag, name in (("text_column", text), ("text_pair_column", text_pair), ("label_column", label)):
        require(flag, [name] if name else [], columns)
    folded = {name.strip().casefold(): name for name in reversed(columns)}
    if not text and not text_pair and not any(name in folded for name in TEXTS[:1]):
        for first, second in PAIRS:
            if first in folded and second in folded:
                text, text_pair = folded[first], folded[second]
                break
    left = {name: values for name, values in columns.items() if name not in (text, text_pair, label)}
    text = text or _by_name(left, TEXTS, OTHER_TEXTS) or _checked(_longest(left), left)
    left.pop(text, None)
    label = label or _by_name(left, LABELS, OTHER_LABELS) or _checked(_of_few_values(left), left)
    for what, flag, name in (("texts", "text_column", text), ("labels", "label_column", label)):
        if not name:
            raise UserError(f"which column holds the {what}? Say --{flag}=NAME; columns are {_shown(columns)}")
    return Columns(text, text_pair, label)


def require(flag: str, names: Sequence[str], columns: Mapping[str, Sequence]) -> None:
    """Refuses names, those that a flag gives, that are not among the columns."""
    for name in names:
        if name not in columns:
            raise UserError(
                f"--{flag}={','.join(names)}: no column {name!r}; columns are {_shown(columns)}"
                f"{nearest(name, [*columns])}"
            )


def _by_name(columns: Mapping[str, Sequence], sure: Sequence[str], others: Sequence[str]) -> str:
    folded = {name.strip().casefold(): name for name in reversed(columns)}
    for name in sure:
        if name in folded:
            return folded[name]
    found = [folded[name] for name in others if name in folded]
    return found[0] if len(found) == 1 else ""


def _longest(columns: Mapping[str, Sequence]) -> str:
    """The column with clearly the longest texts, of which there may be one alone."""
    words = {name: _mean_words(values) for name, values in columns.items()}
    ranked = sorted(words, key=lambda name: words[name], reverse=True)
    if not ranked or words[ranked[0]] < _LEAST_WORDS:
        return ""
    return ranked[0] if len(ranked) == 1 or words[ranked[0]] >= 2 * words[ranked[1]] else ""


def _checked(name: str, columns: Mapping[str, Sequence]) -> str:
    """A name that was found by what its column holds; a name that is such a value itself is that of a row."""
    if name and name in columns[name]:
        raise UserError(
            f"the first line seems to be a row: {name!r} is a value of its own column; add a header line, or name the "
            "columns (--text_column, --label_column)"
        )
    return name


def _mean_words(values: Sequence) -> float:
    return sum(len(value.split()) if isinstance(value, str) else 0 for value in values) / max(len(values), 1)


def _of_few_values(columns: Mapping[str, Sequence]) -> str:
    """The only column of which values come back."""

    def is_of_classes(values: Sequence) -> bool:
        distinct = len({str(value) for value in values})
        is_few = 2 <= distinct <= min(_MOST_CLASSES, max(len(values) / 4, 2))
        return is_few and _mean_words(values) < _LEAST_WORDS

    found = [name for name, values in columns.items() if is_of_classes(values)]
    return found[0] if len(found) == 1 else ""


def _shown(columns: Mapping[str, Sequence]) -> str:
    def value_of(values: Sequence) -> str:
        told = repr(next((value for value in values if value not in (None, "")), ""))
        return told if len(told) <= _VALUE_TOLD else f"{told[: _VALUE_TOLD - 4]} ...{told[0]}"

    return ", ".join(f"{name} ({value_of(values)})" for name, values in columns.items())
