"""What a config.json says about the labels of its head: names, problem type, single texts or pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from codir_jax.processes import json_text
from codir_jax.processes.user_error import UserError

# Our key in config.json: transformers has none for it, and leaves it alone.
IS_PAIR = "text_pair"
REGRESSION, CLASSES, SEVERAL = "regression", "single_label_classification", "multi_label_classification"


class Labels(NamedTuple):
    """Attributes:
    names: of the classes in the order of the outputs; None where there are none, or "LABEL_0", ...
    is_regression: problem_type "regression", or one output of none.
    is_multi_label: problem_type "multi_label_classification": a text has any number of classes.
    is_pair: whether the head is for pairs of texts; None where the config does not say.
    """

    names: tuple[str, ...] | None = None
    is_regression: bool = False
    is_multi_label: bool = False
    is_pair: bool | None = None


UNTOLD = Labels()


def read(hf_config: Mapping[str, Any], num_labels: int) -> Labels:
    """The labels of a trained head of so many outputs.

    Raises:
        UserError: id2label, label2id, problem_type or text_pair is of a wrong type, or does not fit the outputs.
    """
    problem, is_pair = hf_config.get("problem_type"), hf_config.get(IS_PAIR)
    if problem not in (None, REGRESSION, CLASSES, SEVERAL) or not isinstance(problem, str | None):
        raise UserError(f"problem_type: expected {REGRESSION!r}, {CLASSES!r} or {SEVERAL!r}, got {problem!r}")
    if problem == REGRESSION and num_labels != 1:
        raise UserError(f"problem_type {REGRESSION!r} has one output, and the weights have {num_labels}")
    if not isinstance(is_pair, bool | None):
        raise UserError(f"{IS_PAIR}: expected true or false, got {is_pair!r}")
    count = hf_config.get("num_labels")
    if not isinstance(count, int | None) or isinstance(count, bool):
        raise UserError(f"num_labels: expected a whole number, got {count!r}")
    names = _names(hf_config.get("id2label"), num_labels)
    _check_numbers(hf_config.get("label2id"))
    is_multi_label = problem == SEVERAL
    return Labels(names, problem == REGRESSION or (num_labels == 1 and not is_multi_label), is_multi_label, is_pair)


def written(labels: Labels, num_labels: int) -> dict[str, Any]:
    """The entries of a config.json, those of `read`, of a head of so many outputs.

    Raises:
        UserError: names are not distinct, or a regression has several outputs.
    """
    names = [f"LABEL_{i}" for i in range(num_labels)] if not labels.names else [str(name) for name in labels.names]
    if len(names) != num_labels:
        raise ValueError(f"{len(names)} label names {names[:5]} for a head of {num_labels} outputs")
    if len(set(names)) != len(names):
        raise UserError(f"label names are not distinct: {names}")
    if labels.is_regression and num_labels != 1:
        raise UserError(f"a regression head has 1 output, this one {num_labels}")
    return {
        **({} if labels.is_pair is None else {IS_PAIR: labels.is_pair}),
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": REGRESSION if labels.is_regression else SEVERAL if labels.is_multi_label else CLASSES,
    }


def _names(id2label: Any, num_labels: int) -> tuple[str, ...] | None:
    if id2label is None or id2label == {}:
        return None
    numbered = {}
    if isinstance(id2label, dict):
        numbered = {int(key): name for key, name in id2label.items() if key.isascii() and key.isdecimal()}
    if len(numbered) < len(id2label) or sorted(numbered) != list(range(num_labels)):
        raise UserError(
            f'id2label: expected {{"0": name, ...}} with a name for each of {num_labels} outputs, got '
            f"{str(id2label)[:200]}"
        )
    names = tuple(str(numbered[i]) for i in range(num_labels))
    for i, name in enumerate(names):
        if not isinstance(numbered[i], str | int) or not (name.strip() and json_text.is_unicode(name)):
            raise UserError(f"id2label: expected a text for {i}, got {numbered[i]!r}")
    if len(set(names)) < num_labels:
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"id2label: {twice!r} is the name of two outputs; expected distinct names")
    return None if names == tuple(f"LABEL_{i}" for i in range(num_labels)) else names


def _check_numbers(label2id: Any) -> None:
    """Only transformers reads it; what is no table of whole numbers tells of a config that was written wrongly."""
    if label2id is None:
        return
    if not isinstance(label2id, dict) or not all(isinstance(number, int) for number in label2id.values()):
        raise UserError(f"label2id: expected {{name: number, ...}}, got {str(label2id)[:200]}")
