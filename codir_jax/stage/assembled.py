"""A stage, assembled: the one place where task, models, objective and optimizer of a config come together.

A run trains it, a benchmark measures it, a plan looks at its shapes, an evaluation judges its student.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.convert import sides
from codir_jax.convert.folder import model_folder
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.objectives import transform
from codir_jax.objectives.contract import Objective, Setting, TrainRows, make_objective, needs_teacher
from codir_jax.processes import console, distributed
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import checks
from codir_jax.stage import models as models_lib
from codir_jax.stage.initial_state import InitialState
from codir_jax.stage.models import Model
from codir_jax.stage.seen_words import SeenWords, seen_words
from codir_jax.tasks.contract import Feed, Outline, Task, task_module
from codir_jax.training import optimizer


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """The parts of a stage before its first step.

    Attributes:
      task: what is trained on; for a plan its outline.
      student, teacher: the models; without weights for a plan.
      mesh: of the devices; for a plan a jax.sharding.AbstractMesh. rules: logical axis -> mesh axis.
      num_steps: length of the run.
      rows: in the place of the task's, for tables of another size.
    """

    config: ConfigDict
    task: Task | Outline
    student: Model
    teacher: Model | None
    mesh: Any
    rules: Any
    num_steps: int
    rows: TrainRows | None = None

    @classmethod
    def of(
        cls,
        config: ConfigDict,
        mesh: Any = None,
        *,
        parts: tuple[Task | Outline, Model, Model | None] | None = None,
        num_steps: int = 0,
        num_epochs: int = 0,
        rows: TrainRows | None = None,
    ) -> "Stage":
        """The stage of a config.

        Args:
          mesh: None makes the config's of all devices.
          parts: (task, student, teacher) in the place of those that the config names: random ones of a benchmark, or
            shapes of a plan.
          num_steps, num_epochs: length of the run, in the place of the config's where one is not 0; epochs go first.
          rows: of the objective's tables, in the place of the task's.

        Raises:
          UserError: bad config or data, before anything is computed.
        """
        mesh = mesh_lib.make_mesh(config.mesh) if mesh is None else mesh
        table = mesh_lib.rules_of(config.mesh)
        checks.check_batch_sizes(config, rules.num_batch_shards(mesh, table), distributed.num_processes())
        task, student, teacher = read_parts(config) if parts is None else parts
        checks.check_length(config, student)
        stage = cls(
            config=config, task=task, student=student, teacher=teacher, mesh=mesh, rules=table, num_steps=1, rows=rows
        )
        if num_epochs:
            num_steps = num_epochs * stage.feed.steps_per_epoch
        if not num_steps:
            num_steps = config_lib.run_steps(config.train, stage.feed.steps_per_epoch)
        return dataclasses.replace(stage, num_steps=num_steps)

    @property
    def distils(self) -> bool:
        """Whether the objective needs the teacher."""
        return needs_teacher(self.config.objective.name)

    @functools.cached_property
    def seen_words(self) -> SeenWords | None:
        """The rows of the word tables that a step has; None: all of them, as where the weights are compressed."""
        if self.config.compression.method:
            return None
        return seen_words(self.config.student, self.feed.seen_tokens, [m for m in (self.student, self.teacher) if m])

    @property
    def layout(self) -> tuple[Any, Any]:
        """(mesh, table), by which arrays are placed."""
        return self.mesh, self.rules

    @functools.cached_property
    def feed(self) -> Feed | Outline:
        """Batches on the mesh."""
        return self.task.feed(rules.batch_sharding(self.mesh, self.rules))

    @functools.cached_property
    def setting(self) -> Setting:
        """What the objective is made for."""
        return self._setting(self.student, self.teacher)

    def _setting(self, student: Model, teacher: Model | None) -> Setting:
        setting = setting_of(self.config, self.task, student, teacher, self.rows)
        return dataclasses.replace(setting, longest=self.feed.length_buckets[-1])

    @functools.cached_property
    def objective(self) -> Objective:
        """The method, for whole models."""
        made = self._of_given_weights(make_objective(self.config.objective, self.setting))
        return transform.with_transform(made, self.config.compression)

    @functools.cached_property
    def trained_objective(self) -> Objective:
        """The method as a step has it: for models whose word tables have the rows of `seen_words` only."""
        seen = self.seen_words
        if seen is None:
            return self.objective
        student, teacher = (model and seen.cut_model(model) for model in (self.student, self.teacher))
        setting = self._setting(student, teacher)
        return seen.on_cut_tables(self._of_given_weights(make_objective(self.config.objective, setting)))

    def _of_given_weights(self, objective: Objective) -> Objective:
        return transform.with_factors_of(objective, self.student.params)

    def duration(self, section: str, name: str) -> int:
        """A duration of the config in steps."""
        epoch = self.feed.steps_per_epoch
        return config_lib.duration_steps(self.config[section], name, steps_per_epoch=epoch, num_steps=self.num_steps)

    @functools.cached_property
    def optimizer_config(self) -> ConfigDict:
        """The config's, with the learning rate of the student's width."""
        return optimizer.for_width(self.config.optimizer, self.student.config.hidden_size)

    @functools.cached_property
    def schedule(self):
        """Learning rate by step."""
        warmup_steps = self.duration("optimizer", "warmup")
        return optimizer.make_schedule(self.optimizer_config, self.num_steps, warmup_steps, self.feed.steps_per_epoch)

    @functools.cached_property
    def initial_state(self) -> InitialState:
        """What the first step starts from."""
        return InitialState(
            objective=self.trained_objective,
            tx=optimizer.make_optimizer(self.optimizer_config, self.schedule),
            example=self.feed.example(),
            mesh=self.mesh,
            rules=self.rules,
            num_steps=self.num_steps,
            seed=self.config.seed,
            prng_impl=self.config.train.prng_impl,
            gradient_dtype=self.config.optimizer.gradient_dtype,
        )

    def abstract_state(self, *, live: bool):
        """(state, frozen) as shapes with their places; the teacher is in `frozen` where it runs `live`."""
        return self.initial_state.abstract(without=() if live else ("teacher",))

    def start(self, abstract, columns: Mapping[str, Any], teacher_params=None):
        """(state, frozen) on the devices, before the first step.

        Args:
          abstract: of `abstract_state`.
          columns, teacher_params: as of `frozen`.
        """
        return self.start_state(abstract), self.frozen(abstract, columns, teacher_params)

    def start_state(self, abstract):
        """The state before the first step, on the devices; `abstract` is of `abstract_state`."""
        student, seen = self.student, self.seen_words
        params = student.params
        if student.source and student.source.has_head:  # else it was drawn for a step
            params = self.task.head.in_training(params)
        params = transform.start(params, self.config.compression)
        return self.initial_state.fill_state(abstract[0], seen.cut(params) if seen else params)

    def frozen(self, abstract, columns: Mapping[str, Any], teacher_params=None) -> dict[str, Any]:
        """What never changes in a run, on the devices: the same for a run that is resumed.

        Args:
          abstract: of `abstract_state`.
          columns: the teacher's rows of the train set where they are kept, else {}.
          teacher_params: weights on the devices, where the teacher runs live.
        """
        if teacher_params is not None and self.seen_words:
            teacher_params = self._cut_teacher(abstract[1]["teacher"], teacher_params)
        given = {} if teacher_params is None else {"teacher": teacher_params}
        if self.objective.reads:
            whole = rules.replicated(self.mesh)
            for name, weights in sides.load(self.teacher.source.folder, self.objective.reads).items():
                given[f"teacher_{name}"] = jax.device_put(weights, whole)
        return self.initial_state.fill_frozen(abstract[1], given | self.initial_state.tables(columns))

    def judge(self, reference=None):
        """A function (params, frozen) -> scores of the student on dev; `reference` is of `Task.examine`.

        The student's params are whole: those of `whole`.
        """
        return self.task.judge(self.feed, self.setting, self.config.objective, reference, self.layout)

    def whole(self, params):
        """The trained params of a state as they are judged and saved: with all rows of the student's word table."""
        if self.objective.served is not None:
            params = self._served(params)
        student = self.task.head.as_served(params["student"])
        return {**params, "student": student if self.seen_words is None else self._fill_words(student)}

    @functools.cached_property
    def _served(self):
        return jax.jit(self.objective.served)

    @functools.cached_property
    def _fill_words(self):
        return self.seen_words.filler(self.student.params, self.student.places(*self.layout))

    def _cut_teacher(self, abstract, params):
        places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        return jax.jit(self.seen_words.cut, out_shardings=places)(params)


def setting_of(
    config: ConfigDict, task, student: Model, teacher: Model | None, rows: TrainRows | None = None
) -> Setting:
    """What an objective is made for."""
    return Setting(
        head=task.head,
        student=student.module,
        teacher=teacher.module if teacher else None,
        num_microbatches=config.train.num_microbatches,
        rows=task.rows if rows is None else rows,
        unigram=getattr(task, "unigram", None),
    )


def read_parts(config: ConfigDict) -> tuple[Task, Model, Model | None]:
    """(task, student, teacher) that a config names, read and checked against each other."""
    tokenizer = make_tokenizer(config)
    task = task_module(config.task.name).make(config, tokenizer)
    teacher = models_lib.make_teacher(config, task)
    student = models_lib.make_student(config, task.head, teacher, tokenizer)
    if teacher:
        models_lib.check_vocabulary(tokenizer, config.teacher.path, teacher)
    if config.student.init == "pretrained":
        models_lib.check_vocabulary(tokenizer, config.student.path, student)
    # Reading may take hours: what can be refused without it is refused before.
    checks.check_length(config, student)
    objective = make_objective(config.objective, setting_of(config, task, student, teacher))
    sides.load(teacher.source.folder if teacher else ".", objective.reads)
    task.open()
    console.say(task.describe())
    return task, student, teacher


def make_tokenizer(config: ConfigDict):
    """The tokenizer that the config names, or the teacher's, or the student's, or that of an embedded data set.

    Raises:
      UserError: there is none to be had.
    """
    teacher_path = model_folder(config.teacher.path, "teacher.path") if config.teacher.path else ""
    path = config.tokenizer_path or teacher_path or config.student.path
    if path:
        return tokenizer_lib.load_tokenizer(model_folder(path, "tokenizer_path"))
    made = task_module(config.task.name).fresh_tokenizer(config)
    if made is None:
        raise UserError(
            "tokenizer_path is empty, and there is neither a teacher.path nor a student.path to take it from; train "
            "one on your text: codir tokenizer --help"
        )
    return made
