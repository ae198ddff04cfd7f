"""What is planned: models by their sizes, the state of the run by its shapes. Nothing is allocated."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.convert import folder, huggingface
from codir_jax.data import pipeline, teacher_cache
from codir_jax.data.batch import BATCH_DTYPES, MASKED_LM_DTYPES, DatasetInfo
from codir_jax.data.corpus.masking import masked_slots
from codir_jax.evaluation import cost
from codir_jax.models import sizes as sizes_lib
from codir_jax.models.transformer import TransformerConfig
from codir_jax.negatives import memory_bank
from codir_jax.objectives import distill
from codir_jax.objectives.contract import Objective, Setting
from codir_jax.plan.texts import Batches, Texts, batches
from codir_jax.stage import build
from codir_jax.stage import config as stage_config
from codir_jax.stage import models as partners
from codir_jax.stage.initial_state import InitialState
from codir_jax.training import optimizer

# Above this number of examples the tables are laid out for fewer and their first axis is stretched.
NUM_LAID_OUT = 1 << 14
# What a batch holds for every token, or every masked one.
TOKENWISE = ("input_ids", "attention_mask", "token_type_ids", "masked_positions", "masked_labels", "masked_weights")


def model_sizes(path: str) -> TransformerConfig:
    """The sizes of a name in `models.sizes.names()`, or of the config.json of a folder, a workdir or a hub name."""
    if path in sizes_lib.names() and not os.path.isdir(path):
        return sizes_lib.named(path)
    return huggingface.read_sizes(folder.find_folder(build.model_folder(path, "teacher.path")))


def student_sizes(config: ConfigDict, teacher: TransformerConfig | None) -> TransformerConfig:
    """The student of the config, from its teacher's sizes; as `partners.make_student`, without weights."""
    options = config.student
    if options.init == "teacher":
        sizes = dataclasses.replace(teacher, num_layers=options.num_layers or max(teacher.num_layers // 2, 1))
    elif options.init == "pretrained":
        sizes = model_sizes(options.path)
    else:
        text_tokenizer = None if teacher else build.make_tokenizer(config)
        sizes = partners.random_sizes(options, teacher, text_tokenizer)
    if options.dropout >= 0:
        sizes = dataclasses.replace(sizes, hidden_dropout=options.dropout, attention_dropout=options.dropout)
    return sizes


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A stage by its shapes.

    Attributes:
      num_train: examples; the tables of `state` and `frozen` are laid out for as many.
      state, frozen: trees of jax.ShapeDtypeStruct with shardings.
      setting: of the objective, laid out for at most NUM_LAID_OUT examples.
      cache_bytes: of the teacher's outputs on disk; 0 without a cache.
    """

    config: ConfigDict
    teacher: TransformerConfig | None
    num_train: int
    batches: Batches
    mesh: Any
    rules: Any
    setting: Setting
    state: Any
    frozen: dict[str, Any]
    cache_bytes: int
    num_steps: int
    steps_per_epoch: int

    @property
    def student(self) -> TransformerConfig:
        """Sizes of the student."""
        return self.setting.student.config

    @property
    def outputs(self) -> cost.Outputs:
        """What the heads compute for a text."""
        if self.setting.head == "masked_lm":
            return cost.Outputs(num_predictions=masked_slots(self.config.data), head=self.setting.head)
        return cost.Outputs(num_labels=self.setting.info.num_classes)

    @property
    def is_live(self) -> bool:
        """Whether the teacher runs in every step."""
        return "teacher" in self.frozen


def lay_out(
    config: ConfigDict,
    student: TransformerConfig,
    teacher: TransformerConfig | None,
    texts: Texts,
    mesh: Any,
    table: Any,
) -> Job:
    """The job of a config on a mesh, which may be a jax.sharding.AbstractMesh."""
    steps_per_epoch = pipeline.num_batches_per_epoch(texts.num_train, config.data.batch_size)
    num_steps = config_lib.duration_steps(config.train, "total", steps_per_epoch=steps_per_epoch)
    distils = config.objective.name not in build.WITHOUT_TEACHER
    laid_out = min(texts.num_train, NUM_LAID_OUT)
    setting = _setting(config, student, teacher if distils else None, texts, laid_out, max(num_steps, 1))
    objective = build.make_objective(config.objective, setting)
    has_cache = distils and setting.head == "classification"
    cache_bytes = _cache_bytes(config, setting, texts.num_train) if has_cache else 0
    if not _is_cached(config, cache_bytes, num_steps > steps_per_epoch):
        cache_bytes = 0
    is_live = distils and not cache_bytes
    shapes = batches(config.data, texts)
    start = InitialState(
        objective=_stretched(objective, laid_out, texts.num_train),
        tx=optimizer.make_optimizer(config.optimizer, lambda step: 0.0),
        example=example(texts, setting.head),
        mesh=mesh,
        rules=table,
        seed=0,
        prng_impl=config.train.prng_impl,
    )
    state, frozen = start.abstract(without=() if is_live else ("teacher",))
    return Job(
        config=config,
        teacher=teacher if distils else None,
        num_train=texts.num_train,
        batches=shapes,
        mesh=mesh,
        rules=table,
        setting=setting,
        state=state,
        frozen=frozen,
        cache_bytes=cache_bytes,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
    )


def of_run(
    config: ConfigDict,
    setting: Setting,
    num_train: int,
    buckets: tuple[int, ...],
    mesh: Any,
    table: Any,
    state: Any,
    frozen: dict[str, Any],
    steps_per_epoch: int,
) -> Job:
    """The job of a run that is about to take its first step; `state` and `frozen` may be arrays on the devices."""
    teacher = setting.teacher.config if setting.teacher and config.objective.name not in build.WITHOUT_TEACHER else None
    is_cached = teacher is not None and "teacher" not in frozen
    return Job(
        config=config,
        teacher=teacher,
        num_train=num_train,
        batches=Batches(tuple(buckets), (0.0,) * (len(buckets) - 1) + (1.0,)),
        mesh=mesh,
        rules=table,
        setting=setting,
        state=state,
        frozen=frozen,
        cache_bytes=_cache_bytes(config, setting, num_train) if is_cached else 0,
        num_steps=setting.num_steps,
        steps_per_epoch=steps_per_epoch,
    )


def _setting(config, student, teacher, texts: Texts, laid_out: int, num_steps: int) -> Setting:
    """What the objective is made for: models by their sizes, and of a task the tables of `laid_out` examples."""
    head = partners.Head("masked_lm") if stage_config.is_pretraining(config) else None
    head = head or partners.Head("classification", texts.num_classes)
    common = {
        "head": head.kind,
        "student": head.module(student, config.student.dtype, config.student.remat),
        "teacher": head.module(teacher, config.teacher.dtype) if teacher else None,
        "num_steps": num_steps,
        "num_microbatches": config.train.num_microbatches,
    }
    if head.kind == "masked_lm":
        return Setting(**common)
    labels = np.arange(laid_out) % max(texts.num_classes, 2)
    return Setting(
        **common,
        info=_info(texts, laid_out),
        labels=labels.astype(np.float32 if texts.is_regression else np.int32),
        is_labelled=np.ones(laid_out, bool),
        text_ids=np.arange(laid_out, dtype=np.int32),
    )


def _info(texts: Texts, num_train: int) -> DatasetInfo:
    names = () if texts.is_regression else tuple(map(str, range(texts.num_classes)))
    return DatasetInfo(
        name="planned",
        num_train=num_train,
        num_labelled=num_train,
        num_classes=texts.num_classes,
        label_names=names,
        is_regression=texts.is_regression,
        is_pair=False,
        metrics=(),
        num_truncated={},
        splits=("train",),
    )


def example(texts: Texts, head: str = "classification") -> dict[str, np.ndarray]:
    """A batch of one row, for the shapes of `init` only."""
    dtypes = MASKED_LM_DTYPES if head == "masked_lm" else BATCH_DTYPES
    found = {name: np.zeros((1, 1) if name in TOKENWISE else 1, dtype) for name, dtype in dtypes.items()}
    if texts.is_regression:
        found["labels"] = found["labels"].astype(np.float32)
    return found


def _stretched(objective: Objective, laid_out: int, num_train: int) -> Objective:
    """The objective whose banks and tables have a row for each of `num_train` examples; for shapes only.

    What the host needs to build them (classes sorted, texts compared) is thus not built for a billion examples.
    """
    if laid_out == num_train:
        return objective
    padded = memory_bank.padded_rows
    rows = {laid_out: num_train, laid_out + 1: num_train + 1, padded(laid_out): padded(num_train)}

    def stretch(leaf):
        if leaf.ndim and leaf.shape[0] in rows:
            return jnp.zeros((rows[leaf.shape[0]], *leaf.shape[1:]), leaf.dtype)
        return leaf

    def init(rng, batch):
        params, frozen, objective_state = objective.init(rng, batch)
        queue = {name: objective_state.pop(name) for name in ("queue",) if name in objective_state}
        tables = {name: value for name, value in frozen.items() if name not in ("teacher", "projection_teacher")}
        return params, {**frozen, **jax.tree.map(stretch, tables)}, {**jax.tree.map(stretch, objective_state), **queue}

    return objective._replace(init=init)


def _cache_bytes(config: ConfigDict, setting: Setting, num_train: int) -> int:
    """Bytes of the teacher's outputs on the train set."""
    shapes = {
        "teacher_logits": (setting.info.num_classes,),
        "teacher_pooled": (len(distill.matches(config.objective, setting)), setting.teacher.config.hidden_size),
    }
    return teacher_cache.Layout(num_train, shapes, config.teacher.cache_dtype).num_bytes


def _is_cached(config: ConfigDict, num_bytes: int, has_repeats: bool) -> bool:
    """Whether a run would keep them, as `teacher_outputs.decide` does; the free disk is not looked at."""
    options = config.teacher
    is_needed = config.objective.name == "codir" and "teacher_cache" in config.objective.negatives.source
    if options.cache == "auto" and not is_needed:
        return has_repeats and num_bytes <= options.cache_limit_gib * 2**30
    return options.cache == "on" or is_needed
