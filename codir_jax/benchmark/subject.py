"""What is measured: the stage of a config, with random models or random texts in the place of those it names."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.data import synthetic
from codir_jax.evaluation import cost, runner
from codir_jax.models import sizes as sizes_lib
from codir_jax.models.heads import init_params
from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives.contract import TrainRows, default_config_of, needs_teacher, objective_module
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.stage import config as stage_config
from codir_jax.stage import models
from codir_jax.stage.assembled import Stage, make_tokenizer, read_parts
from codir_jax.stage.models import Model
from codir_jax.tasks.contract import task_module

DEFAULT_CONFIG = "configs/codir/finetune_distill.py:demo"
_NUM_RANDOM_TEXTS = 8192  # about CoLA's train set


def load_config(
    spec: str, overrides: Sequence[tuple[str, str]], *, batch_size: int = 0, fixed_length: int = 0
) -> ConfigDict:
    """The config of `spec`; without one the demo's, with fewer texts. Zeros leave the config as it is."""
    wanted = []
    if not spec:
        wanted += [("data.demo_num_train", "2048"), ("data.demo_num_dev", "256"), ("data.batch_size", "32")]
    wanted += overrides
    if batch_size:
        wanted.append(("data.batch_size", str(batch_size)))
    if fixed_length:
        wanted += [("data.max_length", str(fixed_length))]
    config = stage_config.load(spec or DEFAULT_CONFIG, wanted)
    if not needs_teacher(config.objective.name):
        raise UserError(
            f"the benchmark measures distillation, and objective.name={config.objective.name!r} has no teacher; choose "
            "another method"
        )
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A stage that is measured.

    Attributes:
      teacher_name: of `models.sizes.names()`, or the path the teacher came from.
    """

    stage: Stage
    teacher_name: str

    @property
    def config(self) -> ConfigDict:
        """Of the stage."""
        return self.stage.config

    @property
    def outputs(self) -> cost.Outputs:
        """What the heads compute for a text."""
        head, example = self.stage.task.head, self.stage.feed.example()
        num_predictions = example["masked_positions"].shape[1] if "masked_positions" in example else 0
        return cost.Outputs(num_labels=head.num_labels, num_predictions=num_predictions, head=head.name)

    @property
    def can_be_cached(self) -> bool:
        """Whether a teacher's outputs could be kept."""
        return self.stage.task.has_fixed_inputs and self.stage.objective.teacher_view is not None

    @functools.cached_property
    def teacher_params(self):
        """The teacher's weights on the devices."""
        return self.stage.teacher.placed(*self.stage.layout)

    @functools.cached_property
    def student_params(self):
        """The student's starting weights on the devices."""
        return self.stage.student.placed(*self.stage.layout)

    def teacher_rows(self) -> dict[str, np.ndarray]:
        """name -> [num_train, ...]: what a cached teacher puts into the batch, computed now over the train set."""
        feed = self.stage.feed
        view = jax.jit(self.stage.objective.teacher_view.rows)
        return runner.collect(view, self.teacher_params, feed.evaluation("train"), feed.num_train, feed.sharding)

    def start(self, abstract, columns: Mapping[str, Any]):
        """(state, frozen) on the devices; `columns` is of `teacher_rows`."""
        return self.stage.start(abstract, columns, self.teacher_params if "teacher" in abstract[1] else None)


def make(
    config: ConfigDict,
    *,
    model: str | TransformerConfig = "",
    fixed_length: int = 0,
    epochs: int = 0,
    num_steps: int = 0,
    bank_rows: int = 0,
) -> Subject:
    """The subject of a config.

    Args:
      config: as `load_config` returns it; without a teacher.path the teacher is randomly started.
      model: of such a teacher, a name in `models.sizes.names()` ("" is minilm) or its sizes.
      fixed_length: random texts of that many tokens in the place of the config's data.
      epochs, num_steps: length of the run, for the schedules; epochs go first.
      bank_rows: pretended number of training examples, at least the real one; only banks and label tables grow.

    Raises:
      UserError: before any device is used.
    """
    given = config.teacher.path
    if given and model:
        raise UserError(f"give a teacher of random weights by --model={model}, or a real one by teacher.path, not both")
    model = model or "minilm"
    sizes = sizes_lib.named(model) if isinstance(model, str) else model
    checked = config.copy_and_resolve_references()
    checked.teacher.path = given or "random weights"
    stage_config.check(checked)
    parts = read_parts(config) if given and not fixed_length else _parts(config, sizes, fixed_length)
    task, student, teacher = parts
    if student.params is None:
        student = dataclasses.replace(student, params=_random_params(student.module, config.seed))
    rows = _bank_rows(task.rows, bank_rows) if bank_rows else None
    stage = Stage.of(
        config, parts=(task, student, teacher), num_steps=0 if epochs else num_steps, num_epochs=epochs, rows=rows
    )
    name = given or (model if isinstance(model, str) else f"{sizes.num_layers} x {sizes.hidden_size}")
    return Subject(stage, name)


def _parts(config: ConfigDict, sizes: TransformerConfig, fixed_length: int):
    """(task, student, teacher) with random texts of that length, or with a random teacher, or both."""
    task_of = task_module(config.task.name)
    given = config.teacher.path
    tokenizer = make_tokenizer(config) if given or not fixed_length else None
    if fixed_length:
        num_examples = config.data.get("num_train_examples", 0) or _NUM_RANDOM_TEXTS
        vocab, pad = (len(tokenizer), tokenizer.pad_token_id) if given else (sizes.vocab_size, sizes.pad_token_id)
        task = task_of.synthetic(config, num_examples, fixed_length, vocab, pad)
    else:
        if len(tokenizer) > sizes.vocab_size:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens and the model of random weights only {sizes.vocab_size}; "
                "choose another --model"
            )
        task = task_of.make(config, tokenizer)
        task.open()
    if given:
        teacher = models.make_teacher(config, task)
    else:
        teacher = _random_model(models.build(task.head, sizes, config.teacher.dtype), sizes, config.seed)
    return task, models.make_student(config, task.head, teacher, tokenizer), teacher


def pretraining(like: Subject) -> Subject:
    """CoDIR at pre-training (preset "pretrain") with models, lengths, batches and devices of another subject.

    Masked language models of random weights on random chunks, masked as a corpus is. All else of its config stays.
    """
    config = stage_config.default_config(default_config_of("codir", "masked_lm"), "masked_lm")
    for section in ("seed", "student", "optimizer", "train", "mesh"):
        config[section] = like.config[section]
    config.teacher.dtype = like.config.teacher.dtype
    sizes = {name: like.config.data[name] for name in ("max_length", "batch_size", "eval_batch_size")}
    config.data.update({**sizes, "chunks_per_document": math.gcd(4, sizes["batch_size"])})
    student, teacher = like.stage.student.config, like.stage.teacher.config
    task = task_module("masked_lm").synthetic(
        config, like.stage.feed.num_train, sizes["max_length"], student.vocab_size, student.pad_token_id
    )
    made = (
        _random_model(
            models.build(task.head, student, config.student.dtype, config.student.remat), student, config.seed
        ),
        _random_model(models.build(task.head, teacher, config.teacher.dtype), teacher, config.seed),
    )
    stage = Stage.of(config, like.stage.mesh, parts=(task, *made), num_steps=like.stage.num_steps)
    return Subject(stage, like.teacher_name)


def default_objective(name: str) -> ConfigDict:
    """The objective's own default config."""
    return objective_module(name).default_config()


def _random_model(module, sizes: TransformerConfig, seed: int) -> Model:
    return Model(module, _random_params(module, seed), sizes, None)


def _random_params(module, seed: int):
    params = jax.jit(lambda: rules.unbox(init_params(module, jax.random.key(seed))))()
    return jax.tree.map(np.asarray, params)


def _bank_rows(rows: TrainRows, num_rows: int) -> TrainRows:
    if num_rows < rows.num_train:
        raise UserError(f"a bank of {num_rows} rows is smaller than the {rows.num_train} train examples")
    return TrainRows(
        labels=np.arange(num_rows, dtype=np.int32) % synthetic.NUM_CLASSES,
        is_labelled=np.ones(num_rows, bool),
        text_ids=np.arange(num_rows, dtype=np.int32),
        is_regression=False,
    )
