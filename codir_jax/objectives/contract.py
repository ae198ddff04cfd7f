"""The first seam of the house: a method is a pair of pure functions, like an optax transformation.

A method is a file `objectives/NAME.py`, found by `objective.name`. It defines

    HEADS                    names of the heads that it serves, of `objectives/heads/`
    ROLES                    of ("student", "teacher"): whose outputs it needs
    FIELDS                   what it can be set to (processes/fields.py)
    default_config()         their defaults; with an argument those of a preset
    PRESETS                  optional: name of a head -> the preset that fits it
    check(config)            optional: what in them cannot be
    needs_cache(config)      optional: whether it takes rows out of the teacher cache
    LEAST_BATCH              optional: rows that a batch must have, where they are told apart from each other
    OWN_TASK_LOSS            optional: True where its task loss is not that of the head, and knows no class weights
    NEEDS_LABELS             optional: True where texts without labels teach it nothing; they are left out
    READS_NOISE              optional: True where it tells sentences from noise, which is drawn in training for it alone
    IS_WHOLE_TEACHER         optional: True where the student starts as the teacher is, with all of its layers
    LEARNS_VECTORS           optional: True where it takes an encoder's vectors from the teacher, whose answers may be
                             those of an untrained head
    probed_vectors(config)   optional: (model, params, batch) -> float [batch, width], vectors by which its student is
                             judged, through a linear probe; None where its head is trained
    make(config, setting)    -> Objective
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

from codir_jax.negatives.row_tables import RowTable
from codir_jax.objectives.cost import Cost, StepSize
from codir_jax.objectives.sums import Metrics, SumAndCount
from codir_jax.processes import by_name
from codir_jax.processes.fields import Field
from codir_jax.processes.user_error import UserError


class Step(NamedTuple):
    """What a loss is told of the step.

    Attributes:
      rng: of dropout and sampling; None means deterministic.
      progress: float32 scalar, finished share of the run, for schedules of the loss weights.
      term: of `Objective.terms`: the loss is that weighted summand alone; None: all of them.
    """

    rng: jax.Array | None = None
    progress: jax.Array | float = 0.0
    term: str | None = None


class TeacherView(NamedTuple):
    """What a loss needs of the teacher, which a cache may keep.

    Attributes:
      rows: (teacher_params, batch) -> name -> float [batch, ...].
      key: JSON values that the rows depend on beside teacher and data: equal for methods that can share a cache.
    """

    rows: Callable[[Any, Any], dict[str, jax.Array]]
    key: dict[str, Any]


class Early(NamedTuple):
    """A cheaper loss for the first part of a run, without what joins later.

    Attributes:
      until: share of the run, in (0, 1), after which `Objective.loss` takes over.
      loss: as `Objective.loss`; its metrics may be fewer, its state has the same shapes.
    """

    until: float
    loss: Callable[[Any, Any, Any, Any, Step], tuple[jax.Array, tuple[Any, Metrics]]]


class Objective(NamedTuple):
    """A training method.

    init(rng, batch) -> (params, frozen, objective_state):
      `params` is trained, with the student under "student"; `frozen` is never updated and never checkpointed (teacher,
      tables); `objective_state` is updated without gradient and checkpointed (banks, queues, normalisers).
    loss(params, frozen, objective_state, batch, step) -> (loss, (objective_state, metrics)):
      `loss` float32 scalar; `metrics` name -> (sum, count), so that they add up over steps without bias.
    teacher_view: where its rows are in the batch, the loss takes them from there. None: the teacher runs in every step.
    row_tables(rows, split) -> entries of `frozen` with a row for each train row, name -> `RowTable`; `init` holds
      stand-ins of their shapes and axes. `rows` is the teacher's view of the whole train set, name -> float
      [num_train, ...] on the host, for a method that `needs_cache`, else {}. `split` is the sharding of a batch's
      arrays; None: all on one device. None where the method needs the batch's own rows only.
    constrain(params, objective_state) -> params: after every update, where some weights are kept at 0.
    served(params) -> params: as the model is judged and saved, where that is not as it is trained.
    cost(size) -> Cost, for `codir plan`; None: not modelled.
    keeps: names of `params` that are saved beside the best model.
    reads: of these, names that the teacher's folder must have; they are in `frozen` as "teacher_NAME".
    early: the loss of the first part of a run, compiled for itself; None: there is one loss for all of it.
    terms: names of the loss's summands, that of the task first; () where they are not told apart.
    has_learned: metric -> its value from which on a term has nothing more to teach.
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any, Any]]
    loss: Callable[[Any, Any, Any, Any, Step], tuple[jax.Array, tuple[Any, Metrics]]]
    teacher_view: TeacherView | None = None
    row_tables: Callable[[Any, NamedSharding | None], dict[str, RowTable]] | None = None
    cost: Callable[[StepSize], Cost] | None = None
    keeps: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    constrain: Callable[[Any, Any], Any] | None = None
    served: Callable[[Any], Any] | None = None
    early: Early | None = None
    terms: tuple[str, ...] = ()
    has_learned: Mapping[str, float] = MappingProxyType({})

    def with_losses(self, wrap: Callable) -> "Objective":
        """The objective with `wrap(loss)` in the place of each of its losses."""
        early = self.early and self.early._replace(loss=wrap(self.early.loss))
        return self._replace(loss=wrap(self.loss), early=early)


class HeadTerms(NamedTuple):
    """Attributes:
    task: (sum, count) of the task's loss. soft: similarly of the soft targets, None without a teacher.
    metrics: these and what is measured beside them.
    memory: of `Head.memory`, after the batch; None where there is none.
    """

    task: SumAndCount
    soft: SumAndCount | None
    metrics: Metrics
    memory: dict[str, Any] | None = None


class Head(Protocol):
    """What the models of a stage end in: `objectives/heads/NAME.py`, its Linen part an entry of `models/heads.py`.

    Attributes:
      name: of `models.heads.HEADS`. num_labels: outputs of a classifier, 0 where there are none.
      kept: what is read of a model's output, "logits" or "states".
    """

    name: str
    num_labels: int
    kept: str

    def run(self, model, params, batch, rng: jax.Array | None = None):
        """The output of a model with this head on a batch; dropout is on where an rng is given."""

    def view(self, values: jax.Array, params):
        """What `terms` compares, of the kept values float [batch, ...] of a model and its weights."""

    def memory(self, config, width: int) -> dict[str, Any]:
        """What its terms with a teacher keep of earlier batches: entries of the objective's state, {} for none.

        Args:
          config: of the objective. width: of the teacher's states.
        """

    def terms(self, config, batch, student, teacher=None, memory=None) -> HeadTerms:
        """Loss of the task and, with a teacher, soft targets.

        Args:
          config: of the objective. batch: of `data.batch`. student, teacher: of `view`.
          memory: holds the entries of `memory` as they are before the batch.
        """

    def check_distillation(self, config, rows: "TrainRows | None") -> None:
        """Refuses fields and train rows that its terms with a teacher have no meaning for."""

    def in_training(self, params):
        """Weights of a student, with a trained head, as a step has them; of those that a folder has."""

    def as_served(self, params):
        """The other way round."""

    def check_pair(self, student, teacher) -> None:
        """Refuses a teacher that the student's head cannot be compared with (two Linen modules)."""


class TrainRows(NamedTuple):
    """The whole train set row by row, labelled rows first.

    Attributes:
      labels: int32 classes or float32 targets [num_train]. is_labelled: bool [num_train].
      text_ids: int32 [num_train], equal for equal texts; [num_train, T] where a row has T > 1 texts apart. All three
        are arrays, or what gives one for each slice.
      is_regression: labels are targets.
      columns: further columns of a batch, name -> [num_train, ...].
      is_multi_label: labels are float32 [num_train, classes] of 0 and 1.
    """

    labels: Any
    is_labelled: Any
    text_ids: Any
    is_regression: bool
    columns: Mapping[str, Any] = MappingProxyType({})
    is_multi_label: bool = False

    @property
    def num_train(self) -> int:
        """Examples of the train set."""
        return len(self.text_ids)

    @property
    def texts_per_row(self) -> int:
        """Texts of a row that are encoded each by itself."""
        return self.text_ids.shape[1] if getattr(self.text_ids, "ndim", 1) > 1 else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method is made for: models and data.

    Attributes:
      head: of both models.
      student: Linen model with that head. teacher: similarly, or None where there is none.
      num_microbatches: parts in which the models run over a batch.
      rows: the train set; None where it has no labels and too many rows for a table, as a corpus has.
      unigram: float64 [vocab], how frequent each token is in the train text; None where nothing was counted.
      longest: tokens of the longest padded batch; 0 where that is not known yet.
    """

    head: Head
    student: Any
    teacher: Any | None = None
    num_microbatches: int = 1
    rows: TrainRows | None = None
    unigram: np.ndarray | None = None
    longest: int = 0


# What the file of an objective defines, beside `default_config()`, which has the presets.
OF_OBJECTIVES = ("FIELDS", "make", "HEADS")


def objective_module(name: str) -> ModuleType:
    """The module `objectives/NAME.py`; an unknown name lists the known ones."""
    return by_name.module("codir_jax.objectives", name, "objective.name", OF_OBJECTIVES)


def default_config_of(name: str, head: str):
    """The fields of the objective of that name as they fit a head."""
    module = objective_module(name)
    preset = getattr(module, "PRESETS", {}).get(head)
    return module.default_config(preset) if preset else module.default_config()


def needs_teacher(name: str) -> bool:
    """Whether the method of that name needs a teacher."""
    return "teacher" in objective_module(name).ROLES


def needs_labels(name: str) -> bool:
    """Whether texts without labels teach the method nothing."""
    return getattr(objective_module(name), "NEEDS_LABELS", False)


def needs_cache(config) -> bool:
    """Whether the objective of a config takes rows out of the teacher cache."""
    asks = getattr(objective_module(config.name), "needs_cache", None)
    return asks is not None and asks(config)


def learns_answers(name: str) -> bool:
    """Whether the method learns from its teacher's answers, so that they must be worth something."""
    return needs_teacher(name) and not getattr(objective_module(name), "LEARNS_VECTORS", False)


def probed_vectors(config) -> Callable[[Any, Any, Any], jax.Array] | None:
    """What the student of a config's objective is judged by instead of its own answers; None: by those."""
    asks = getattr(objective_module(config.name), "probed_vectors", None)
    return None if asks is None else asks(config)


def make_objective(config, setting: Setting) -> Objective:
    """The objective that the config names, for this setting.

    Raises:
      UserError: it serves another head, or its fields contradict each other.
    """
    module = objective_module(config.name)
    require_head(config.name, setting.head.name)
    if "teacher" in module.ROLES:
        setting.head.check_pair(setting.student, setting.teacher)
    return module.make(config, setting)


def require_head(name: str, head: str) -> None:
    """Refuses an objective that does not serve the head.

    Raises:
      UserError: with the objectives that do.
    """
    module = objective_module(name)
    if head not in module.HEADS:
        found = by_name.modules("codir_jax.objectives", OF_OBJECTIVES)
        fitting = ", ".join(other for other, its in found.items() if head in its.HEADS)
        raise UserError(
            f"objective.name={name!r} trains a {' or '.join(module.HEADS)} head, and the task has a {head} head; "
            f"objectives for it: {fitting}"
        )


def head_fields() -> dict[str, Field]:
    """The fields of an objective's config that its head reads, of all heads; where two have one name, the last's."""
    found: dict[str, Field] = {}
    for module in by_name.modules("codir_jax.objectives.heads", ("FIELDS",)).values():
        found |= module.FIELDS
    return found
