"""A train split that is read a part at a time: what a data set gives in the place of its rows where they are many."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from codir_jax.data.splits import RawSplit

# Train texts of fewer bytes are read into memory: some 0.4 GB while they are tokenised.
LEAST_BYTES = 32 << 20
# Of text in a unit, at most: a few hundred MB while one is read and tokenised.
UNIT_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Unit:
    """Rows that one process reads and tokenises at a time; it can be pickled.

    Attributes:
      name: of its shard. num_bytes: of text.
      read: adds what is wrong to the list that it is given, and returns rows like those of any split but for their
        labels: those of classes as the file has them, or targets of a regression; None for rows without labels, in all
        of a unit or in none.
    """

    name: str
    num_bytes: int
    read: Callable[[list[str]], RawSplit | None]


class Streamed(NamedTuple):
    """A train split as units.

    Attributes:
      identity: JSON values that the rows depend on, such as paths, sizes and dates of files.
      units: makes (those with labels, those without), each in order, named by their places: the same on every process.
      label_names: of the classes, in order; (): those found, sorted, or a regression.
      is_regression: labels are targets.
      is_pair: a row is two texts, encoded together.
      source: what is told to hold the rows.
    """

    identity: Any
    units: Callable[[], tuple[list[Unit], list[Unit]]]
    label_names: tuple[str, ...]
    is_regression: bool
    is_pair: bool
    source: str
