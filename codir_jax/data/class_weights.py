"""How much the examples of a class count in the task loss: `data.class_weights`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from codir_jax.data.delimited import nearest
from codir_jax.processes.user_error import UserError

BALANCED = "balanced"


def check(setting: str) -> None:
    """Refuses what is neither "", "balanced" nor NAME=WEIGHT,... with weights above 0."""
    if setting not in ("", BALANCED):
        _named(setting)


def of_classes(setting: str, label_names: Sequence[str], labels: np.ndarray) -> tuple[float, ...]:
    """Returns a weight for each class; () where all count alike.

        balanced     w_c = n / (classes * n_c)
        NAME=WEIGHT  w_c proportional to WEIGHT, 1 for a class that is not named

    Both have the mean 1 over the labels, so that the size of the loss, beside other terms, stays.

    Args:
      setting: `data.class_weights`.
      label_names: of the classes in the order of their numbers.
      labels: int [n], of the labelled train rows; no class is without one.

    Raises:
      UserError: a name that no class has.
    """
    if not setting:
        return ()
    counts = np.bincount(labels, minlength=len(label_names))
    weights = 1 / counts if setting == BALANCED else np.asarray(_in_order(_named(setting), label_names))
    return tuple((weights * counts.sum() / (weights * counts).sum()).tolist())


def of_yes(setting: str, label_names: Sequence[str], labels: np.ndarray) -> tuple[float, ...]:
    """Returns how much a yes counts beside a no for each class, where a text has any number of them; () for all alike.

        balanced     w_c = (n - n_c) / n_c, so that both weigh as much in sum
        NAME=WEIGHT  w_c = WEIGHT, 1 for a class that is not named

    Args:
      setting, label_names: as of `of_classes`.
      labels: [n, classes] of 0 and 1, of the labelled train rows; no class is without one.

    Raises:
      UserError: a name that no class has.
    """
    if not setting:
        return ()
    if setting == BALANCED:
        counts = labels.sum(axis=0)
        return tuple(((len(labels) - counts) / counts).tolist())
    return _in_order(_named(setting), label_names)


def _in_order(named: dict[str, float], label_names: Sequence[str]) -> tuple[float, ...]:
    """The weight of each class, 1 of one that is not named."""
    for name in named:
        if name not in label_names:
            raise UserError(
                f"data.class_weights: no class {name!r}; classes are {', '.join(label_names)}"
                f"{nearest(name, list(label_names))}"
            )
    return tuple(named.get(name, 1.0) for name in label_names)


def _named(setting: str) -> dict[str, float]:
    named = {}
    for entry in setting.split(","):
        name, equals, text = entry.rpartition("=")
        try:
            weight = float(text) if equals else 0.0
        except ValueError:
            weight = 0.0
        if not (0 < weight < math.inf):
            raise UserError(
                f"data.class_weights: expected 'balanced' or NAME=WEIGHT,... with weights above 0, got {entry!r}"
            )
        named[name.strip()] = weight
    return named
