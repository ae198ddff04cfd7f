"""Further columns of a data set as arrays: numbers as they are, texts as class numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from codir_jax.data.splits import RawSplit
from codir_jax.processes.user_error import UserError


def number_columns(
    splits: Mapping[str, RawSplit], of_train: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[dict[str, RawSplit], dict[str, tuple[str, ...]]]:
    """Returns the splits with all further columns as arrays; and for each column of texts the names of its classes.

    A column of texts is int32 [n]: the place of each among the texts of the train split, sorted (without a train split,
    among those of all splits). Whole numbers become int32 [n, ...], other numbers float32 [n, ...].

    Args:
      splits: name -> rows.
      of_train: where the train split is not among them, column -> the sorted texts that it has there; () for numbers.

    Raises:
      UserError: a split has a text that train does not have, or numbers where train has texts.
    """
    columns_of_split: dict[str, dict[str, np.ndarray]] = {split: {} for split in splits}
    column_names: dict[str, tuple[str, ...]] = {}
    for column in dict.fromkeys(name for rows in splits.values() for name in rows.columns):
        found = {split: rows.columns[column] for split, rows in splits.items() if column in rows.columns}
        texts = [split for split, values in found.items() if are_texts(column, split, values)]
        kinds = {split: split in texts for split in found}
        if of_train and column in of_train:
            kinds["train"] = bool(of_train[column])
            texts += ["train"] * kinds["train"]
        if texts and len(texts) < len(kinds):
            numbers = ", ".join(split for split in kinds if split not in texts)
            raise UserError(f"column {column!r} holds texts in {', '.join(texts)} and numbers in {numbers}")
        if texts:
            known = {"train": found["train"]} if "train" in found else found
            names = tuple(sorted({value for values in known.values() for value in values}))
            names = of_train[column] if of_train and column in of_train else names
            column_names[column] = names
        for split, values in found.items():
            array = as_classes(column, split, values, names) if texts else as_numbers(column, split, values)
            columns_of_split[split][column] = array
    numbered = {
        split: dataclasses.replace(rows, columns=columns_of_split[split]) if rows.columns else rows
        for split, rows in splits.items()
    }
    return numbered, column_names


def are_texts(column: str, split: str, values: Sequence) -> bool:
    """Returns whether a column holds texts; refuses one that holds both texts and numbers."""
    kinds = {isinstance(value, str) for value in values}
    if len(kinds) > 1:
        raise UserError(f"column {column!r} of {split} holds both texts and numbers; a column holds one of them")
    return True in kinds


def as_classes(column: str, split: str, values: Sequence[str], names: tuple[str, ...]) -> np.ndarray:
    """Returns the place of each text among `names`, int32 [n]; refuses one that is not among them."""
    number = {name: i for i, name in enumerate(names)}
    unknown = sorted(set(values) - number.keys())
    if unknown:
        raise UserError(
            f"column {column!r} of {split} has {', '.join(map(repr, unknown[:10]))}, which train does not have; "
            f"known: {', '.join(names[:20])}"
        )
    return np.asarray([number[value] for value in values], np.int32)


def as_numbers(column: str, split: str, values: Sequence) -> np.ndarray:
    """Returns whole numbers as int32 [n, ...], others as float32; refuses what is none."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of unlike lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(f"column {column!r} of {split} is not one of numbers; rows of numbers are all of one length")
    if array.dtype.kind in "iu" and array.size and max(-int(array.min()), int(array.max())) >= 1 << 31:
        raise UserError(f"column {column!r} of {split} has whole numbers beyond 2^31 - 1; give them as float")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
