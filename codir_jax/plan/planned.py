"""What is planned: a stage by its shapes. Nothing is allocated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.data import teacher_cache
from codir_jax.evaluation import cost
from codir_jax.models.contract import family
from codir_jax.models.transformer import TransformerConfig
from codir_jax.negatives import memory_bank, row_tables
from codir_jax.objectives.contract import Objective, needs_cache
from codir_jax.objectives.cost import Cost, StepSize
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.stage import models
from codir_jax.stage.assembled import Stage
from codir_jax.stage.teacher import kept_shapes
from codir_jax.tasks.contract import Outline


class NotModelledError(UserError):
    """A plan was asked for what nobody has counted: better no number than a wrong one."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PlannedStage:
    """A stage by its shapes.

    Attributes:
      stage: its tables are made for some of the examples only.
      num_train: examples; the tables of `state` and `frozen` have a row for each.
      length_buckets, shares: padded lengths of the batches, and the share of the batches that each has.
      num_predictions: masked slots of an example, 0 without any. host_bytes: of the data on every host.
      state, frozen: trees of jax.ShapeDtypeStruct with shardings.
      cache_bytes: of the teacher's outputs on disk; 0 without a cache.
      has_head: False of the steps before the head joins.
    """

    stage: Stage
    num_train: int
    length_buckets: tuple[int, ...]
    shares: tuple[float, ...]
    num_predictions: int
    host_bytes: float
    state: Any
    frozen: dict[str, Any]
    cache_bytes: int
    has_head: bool = True

    @property
    def config(self) -> ConfigDict:
        """Of the stage."""
        return self.stage.config

    @property
    def student(self) -> TransformerConfig:
        """Sizes of the student."""
        return self.stage.student.config

    @property
    def teacher(self) -> TransformerConfig | None:
        """Sizes of the teacher that the method needs."""
        return self.stage.teacher.config if self.stage.distils else None

    @property
    def longest(self) -> int:
        """The largest padded length."""
        return self.length_buckets[-1]

    @property
    def outputs(self) -> cost.Outputs | None:
        """What the heads compute for a text; None: nothing."""
        if not self.has_head:
            return None
        head = self.stage.task.head
        return cost.Outputs(num_labels=head.num_labels, num_predictions=self.num_predictions, head=head.name)

    @property
    def is_live(self) -> bool:
        """Whether the teacher runs in every step."""
        return "teacher" in self.frozen

    @property
    def rows_on_device(self) -> float:
        """Rows of a batch on one device."""
        return self.config.data.batch_size / rules.num_batch_shards(self.stage.mesh, self.stage.rules)

    @property
    def method_cost(self) -> Cost:
        """What a step costs beside the models.

        Raises:
          NotModelledError: the method does not say, or a model is of a family whose memory is not known here.
        """
        if self.stage.objective.cost is None:
            raise NotModelledError(f"objective {self.config.objective.name!r} is not modelled: it states no cost")
        for sizes in (self.student, self.teacher):
            if sizes is None:
                continue
            if not isinstance(sizes, TransformerConfig) or family(sizes.family).flops is None:
                raise NotModelledError(f"model family {sizes.family!r} is not modelled")
        size = StepSize(
            batch_size=self.config.data.batch_size,
            num_train=self.num_train,
            shards=rules.num_batch_shards(self.stage.mesh, self.stage.rules),
            devices=self.stage.mesh.size,
            length=self.longest,
        )
        return self.stage.objective.cost(size)


def of_config(config: ConfigDict, teacher: TransformerConfig | None, outline: Outline, mesh: Any) -> PlannedStage:
    """The stage of a config on a mesh, which may be a jax.sharding.AbstractMesh."""
    tokenizer = None
    if config.student.init == "random" and teacher is None:
        from codir_jax.stage.assembled import make_tokenizer

        tokenizer = make_tokenizer(config)
    student, taught = models.shapes_only(config, outline.head, teacher, tokenizer)
    stage = Stage.of(config, mesh, parts=(outline, student, taught))
    cache_bytes = _cache_bytes(stage, outline.num_train) if _is_kept(stage, outline) else 0
    objective = _stretched(stage.trained_objective, outline.num_table_rows, outline.num_train)
    start = dataclasses.replace(stage.initial_state, objective=objective)
    is_live = stage.distils and not cache_bytes
    state, frozen = start.abstract(without=() if is_live else ("teacher",))
    return PlannedStage(
        stage=stage,
        num_train=outline.num_train,
        length_buckets=outline.length_buckets,
        shares=outline.shares,
        num_predictions=outline.num_predictions,
        host_bytes=outline.host_bytes,
        state=state,
        frozen=frozen,
        cache_bytes=cache_bytes,
    )


def of_run(stage: Stage, state: Any, frozen: dict[str, Any]) -> PlannedStage:
    """The stage of a run that is about to take its first step; `state` and `frozen` may be arrays on the devices."""
    feed = stage.feed
    is_cached = stage.distils and "teacher" not in frozen
    return PlannedStage(
        stage=stage,
        num_train=feed.num_train,
        length_buckets=tuple(feed.length_buckets),
        shares=(0.0,) * (len(feed.length_buckets) - 1) + (1.0,),
        num_predictions=_num_predictions(feed.example()),
        host_bytes=0.0,
        state=state,
        frozen=frozen,
        cache_bytes=_cache_bytes(stage, feed.num_train) if is_cached else 0,
    )


def _num_predictions(batch) -> int:
    return batch["masked_positions"].shape[1] if "masked_positions" in batch else 0


def _stretched(objective: Objective, num_rows: int, num_train: int) -> Objective:
    """The objective whose banks and tables have a row for each of `num_train` examples; for shapes only.

    What the host needs to build them (classes sorted, texts compared) is therefore not built for a billion examples.
    """
    if num_rows == num_train:
        return objective
    rows = {count(num_rows): count(num_train) for count in (memory_bank.padded_rows, row_tables.num_rows)}

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


def _cache_bytes(stage: Stage, num_train: int) -> int:
    """Bytes of the teacher's view of the train set."""
    return teacher_cache.Layout(num_train, kept_shapes(stage), stage.config.teacher.cache_dtype).num_bytes


def _is_kept(stage: Stage, outline: Outline) -> bool:
    """Whether a run would keep the teacher's view, as `stage.teacher.decide` does; the free disk is not looked at."""
    if not stage.distils or not outline.has_fixed_inputs or stage.objective.teacher_view is None:
        return False
    options, is_needed = stage.config.teacher, needs_cache(stage.config.objective)
    if options.cache == "auto" and not is_needed:
        num_bytes = _cache_bytes(stage, outline.num_train)
        return stage.num_steps > outline.steps_per_epoch and num_bytes <= options.cache_limit_gib * 2**30
    return options.cache == "on" or is_needed
