"""The second seam of the house: what a run trains on and is judged by.

A task is a file `tasks/NAME.py`, found by `task.name`. It defines

    TEACHER                      what a teacher of the task is called, and the config that trains one
    PLAIN_OBJECTIVE              name of the objective that has the task's own loss only
    data_fields() -> Fields      the `data` section of a config (processes/fields.py)
    check(config)                what in a config cannot be, before data or devices are touched
    fresh_tokenizer(config)      a tokenizer made of embedded data; None: one must be named
    make(config, tokenizer)      -> Task
    outline(config, ...)         -> Outline: its train set by sizes alone, for `codir plan`; without it: not modelled
    synthetic(config, ...)       -> Task of random texts of one length, for `codir bench --fixed_length`

A task never imports `stage`: models are handed to it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from codir_jax.convert.labels import Labels
from codir_jax.data.batch import Batch, Column
from codir_jax.evaluation.metrics import Metric
from codir_jax.objectives.contract import Head, Setting, TrainRows
from codir_jax.processes import by_name
from codir_jax.sharding import placement


class Feed(Protocol):
    """The data of a task as batches on a mesh.

    Attributes:
      sharding: of a batch. length_buckets: padded lengths of all batches.
      num_train: examples of the train split. steps_per_epoch: batches of an epoch.
      real_token_share: share of real tokens among the positions of the train batches.
      columns: of a batch, without a teacher's; "length" stands for the padded length.
      seen_tokens: int32, ids that the inputs can hold, but for padding; None where they are not known.
    """

    sharding: Any
    length_buckets: tuple[int, ...]
    num_train: int
    steps_per_epoch: int
    real_token_share: float
    columns: Mapping[str, Column]
    seen_tokens: np.ndarray | None

    def example(self) -> Batch:
        """A host batch, for its shapes."""

    def train_on_host(self, start_step: int, num_steps: int, columns: Mapping[str, Any]) -> Iterator[Batch]:
        """Host batches of steps start_step .. num_steps - 1; `columns`, name -> [num_train, ...], join them."""

    def evaluation(self, split: str, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Host batches of a split, or of some of its rows, each example once."""


def train_batches(
    feed: Feed, start_step: int, num_steps: int, columns: Mapping[str, Any]
) -> Iterator[dict[str, jax.Array]]:
    """`feed.train_on_host` on the devices, put there ahead."""
    return placement.put_ahead(feed.train_on_host(start_step, num_steps, columns), feed.sharding)


class Examined(NamedTuple):
    """What a model by itself is worth on a split.

    Attributes:
      scores: metric -> value.
      reference: what a student is compared with, for `Task.judge`.
    """

    scores: dict[str, float]
    reference: Any


class Task(Protocol):
    """Attributes:
    head: of its models. metrics: what a model is judged by, the primary one first.
    splits: names of those that exist. fingerprint: of the data: equal for equal tokens and labels only; "" before
        `open`, where that reads them.
    rows: the train set row by row; None where no table of it is kept.
    has_fixed_inputs: an example gives the same inputs in every epoch, so that a teacher's outputs can be kept.
    typical_length: tokens of an input for which costs are told. tokenizer: of transformers, or None.
    labels: what a saved model is told of its classes.
    served_length: tokens to which a saved model cuts a text, since it is judged so; None: as its tokenizer has it.
    """

    head: Head
    metrics: tuple[Metric, ...]
    splits: tuple[str, ...]
    fingerprint: str
    rows: TrainRows | None
    has_fixed_inputs: bool
    labels: Labels
    typical_length: int
    tokenizer: Any
    served_length: int | None

    # A task of classes or numbers may have `read_rows() -> dict[str, RawSplit]`, the labelled rows as a person reads
    # them: its report then tells classes, errors and what counting words is worth. The reference of `examine` is then
    # float32 [n, classes], of a regression [n, 1], and `scores_of(split, answers) -> dict[str, float]` judges those of
    # another runtime. A task may have `side_files() -> dict[str, Callable]`, name -> what writes it beside a saved
    # model's weights, and `unigram`, as of `Setting`.

    def is_judged_once(self, split: str) -> bool:
        """Whether finished models are compared on the split, by which none of them was chosen."""

    def require_split(self, split: str) -> None:
        """Refuses a split that does not exist, or by which nothing can be judged."""

    def open(self) -> None:
        """Reads what may take hours; everything else of the stage was checked before."""

    def feed(self, sharding) -> Feed:
        """The batches, for a sharding of their rows."""

    def check_checkpoint(self, source, path: str) -> None:
        """Refuses a pretrained model whose classes are not the task's."""

    def lacks_head(self) -> tuple[str, str]:
        """(what a model without a trained head lacks, the config that trains one)."""

    def examine(self, feed: Feed, module, params, layout, split: str = "dev") -> Examined:
        """Scores of a model by itself; `layout` is (mesh, table of `sharding.rules`)."""

    def weakness(self, scores: Mapping[str, float], feed: Feed) -> str:
        """Why a teacher with these scores teaches nothing, as the rest of a sentence; "" if it does."""

    def judge(self, feed: Feed, setting: Setting, objective, reference, layout) -> Callable[..., dict[str, float]]:
        """A function (params, frozen) of the objective -> scores of the student on dev.

        With a reference, of `examine`, also its distance to the model that was examined.
        """

    def describe(self) -> str:
        """One line: sizes, classes, truncation."""

    def facts(self) -> dict[str, Any]:
        """What `results.json` tells of the data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outline:
    """A train set by its sizes alone; it stands in the place of a Task and its Feed where nothing is trained.

    Attributes:
      head: of the models. rows: as of a Task, made for at most `num_table_rows` examples.
      num_train: examples. num_table_rows: of these that `rows` has.
      lengths: int [some of them], tokens. length_buckets, shares: padded lengths and the share of batches of each.
      steps_per_epoch: batches of an epoch. num_predictions: masked slots of an example, 0 without any.
      example_batch: one row of one token, for shapes.
      host_bytes: of the data on each host.
      told: where the figures come from.
    """

    head: Head
    rows: TrainRows | None
    num_train: int
    num_table_rows: int
    lengths: np.ndarray
    length_buckets: tuple[int, ...]
    shares: tuple[float, ...]
    steps_per_epoch: int
    num_predictions: int
    example_batch: Batch
    host_bytes: float
    has_fixed_inputs: bool
    told: str

    sharding: Any = None
    seen_tokens: np.ndarray | None = None
    splits: tuple[str, ...] = ("train",)

    @property
    def longest(self) -> int:
        """The largest padded length."""
        return self.length_buckets[-1]

    def feed(self, sharding) -> "Outline":
        """Itself, with the sharding of its batches."""
        return dataclasses.replace(self, sharding=sharding)

    def example(self) -> Batch:
        """A batch of one row of one token."""
        return self.example_batch


def task_module(name: str) -> ModuleType:
    """The module `tasks/NAME.py`; an unknown name lists the known ones."""
    return by_name.module("codir_jax.tasks", name, "task.name", ("make", "data_fields", "TEACHER"))
