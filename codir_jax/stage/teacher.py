"""The teacher's side of a stage: examined on dev; its outputs on the train set, live or from the cache."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.data import teacher_cache
from codir_jax.evaluation import runner
from codir_jax.models.heads import abstract_params
from codir_jax.objectives.contract import learns_answers, needs_cache
from codir_jax.processes import console, environment
from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.stage.assembled import Stage

GIB = 2**30


class Teacher:
    """The frozen teacher of a stage.

    Attributes:
      params: on the devices; None once its outputs are all that is needed.
      scores: its task metrics on dev.
      reference: of `Task.examine`, what a student is compared with; None without a dev split.
    """

    def __init__(self, stage: Stage):
        self._stage = stage
        self.params = stage.teacher.placed(*stage.layout)
        self.scores: dict[str, float] = {}
        self.reference: Any = None

    def examine(self) -> None:
        """Runs it over dev, where the method learns from its answers or none; refuses one that knows nothing.

        One without a head, of whose layers a student starts, has no answers.
        """
        stage = self._stage
        if not stage.teacher.source.has_head:
            return
        if "dev" not in stage.task.splits or (stage.distils and not learns_answers(stage.config.objective.name)):
            return
        self.scores, self.reference = stage.task.examine(stage.feed, stage.teacher.module, self.params, stage.layout)
        console.say("teacher dev: " + "  ".join(f"{k} {v:.4f}" for k, v in self.scores.items()))
        weakness = stage.task.weakness(self.scores, stage.feed)
        if not weakness:
            return
        told = f"the teacher {stage.config.teacher.path} {weakness} on dev, so there is nothing to distil"
        if stage.distils and not stage.config.teacher.allow_weak:
            raise UserError(
                f"{told}; train it on this task first ({stage.task.lacks_head()[1]}), check its classes and its "
                "tokenizer, or set --config.teacher.allow_weak=true"
            )
        console.say(f"warning: {told}")

    def train_rows(self) -> dict[str, teacher_cache.Rows]:
        """Its view of the whole train set, kept on disk, by name; {} where it runs live."""
        stage = self._stage
        if not stage.task.has_fixed_inputs or stage.objective.teacher_view is None:
            console.say("teacher: runs live, its inputs or what is read of it cannot be kept")
            return {}
        cache, is_needed = self._cache(), needs_cache(stage.config.objective)
        is_kept, why = decide(stage.config.teacher, cache, stage.num_steps, stage.feed.steps_per_epoch, is_needed)
        if jax.process_count() > 1:  # disks differ; the first process decides
            from jax.experimental import multihost_utils

            is_kept = bool(multihost_utils.broadcast_one_to_all(np.int32(is_kept)))
        console.say(why)
        if not is_kept:
            return {}
        cache.fill(self._compute, tell=console.say, alone=jax.process_count() == 1, agree=_union)
        return cache.read()

    def let_go(self) -> None:
        """Its weights leave the devices, unless the evaluation compares with them."""
        if self.reference is not self.params:
            self.params = None

    def _cache(self) -> teacher_cache.TeacherCache:
        stage, options = self._stage, self._stage.config.teacher
        return teacher_cache.TeacherCache(
            cache_folder("teacher", options.cache_dir),
            teacher_cache.Layout(stage.feed.num_train, kept_shapes(stage), options.cache_dtype),
            teacher=stage.teacher.source.fingerprint,
            architecture=dataclasses.asdict(stage.teacher.config),  # equal weights in other heads are another model
            data=stage.task.fingerprint,  # every token
            view=stage.objective.teacher_view.key,
            dtype=options.dtype,
            arithmetic=environment.arithmetic(),
        )

    def _compute(self, shards: list[range]) -> Iterator[dict[str, np.ndarray]]:
        """Yields the outputs on each stretch of train rows, one of them in memory at a time."""
        if not shards:
            return
        num_examples = self._stage.feed.num_train
        num_rows = sum(map(len, shards))
        if not jax.process_index():
            console.say(f"teacher: one pass over {num_rows} of {num_examples} train examples ...")
        view = jax.jit(self._stage.objective.teacher_view.rows)
        batches = (batch for rows in shards for batch in self._stage.feed.evaluation("train", rows))
        remaining, arrays = iter(shards), {}
        rows, num_done = next(remaining), 0
        with console.progress_bar("teacher", num_examples - num_rows, num_examples, "text") as bar:
            # No batch crosses the end of a shard, and the batches come in the order of the shards.
            for ids, outputs in runner.each_batch(view, self.params, batches, num_examples, self._stage.feed.sharding):
                for name, part in outputs.items():
                    if name not in arrays:
                        arrays[name] = np.empty((len(rows), *part.shape[1:]), part.dtype)
                    arrays[name][ids - rows.start] = part
                num_done += len(ids)
                bar.update(len(ids))
                if num_done == len(rows):
                    yield arrays
                    rows, num_done, arrays = next(remaining, None), 0, {}


def kept_shapes(stage: Stage) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a row of what a cache keeps of the stage's teacher."""
    params = rules.unbox(abstract_params(stage.teacher.module))
    example = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in stage.feed.example().items()}
    view = jax.eval_shape(stage.objective.teacher_view.rows, params, example)
    return {name: x.shape[1:] for name, x in view.items()}


def decide(
    options: ConfigDict,
    cache: teacher_cache.TeacherCache,
    num_steps: int,
    steps_per_epoch: int,
    is_needed: bool = False,
) -> tuple[bool, str]:
    """Whether the outputs are kept, and one line that says so, with their size and the reason.

    Args:
      options: `teacher` section of the config.
      cache: where they would be.
      num_steps: length of the run.
      steps_per_epoch: of the train set.
      is_needed: the objective makes tables of the rows, so that "auto" means "on".
    """
    size, limit = cache.layout.num_bytes / GIB, options.cache_limit_gib
    told = f"{size:.2f} GiB, {options.cache_dtype}, in {cache.folder}"
    if options.cache == "off":
        return False, "teacher: runs live in every step (teacher.cache=off)"
    if options.cache == "on" or is_needed:
        return True, f"teacher cache: on, {told}"
    epochs = num_steps / steps_per_epoch
    if num_steps <= steps_per_epoch:
        return False, "teacher: runs live, no example comes twice in this run (teacher.cache=auto)"
    if size > limit:
        return False, f"teacher: runs live, its outputs would take {size:.1f} GiB, teacher.cache_limit_gib is {limit:g}"
    missing, free = cache.missing_bytes(), cache.free_bytes()
    if missing > free / 3:
        return False, (
            f"teacher: runs live, its outputs would take {missing / GIB:.1f} GiB more and the disk of {cache.folder} "
            f"has {free / GIB:.1f} GiB free (teacher.cache=auto wants three times as much)"
        )
    return True, f"teacher cache: on, {epochs:.3g} epochs share one pass; {told}"


def _union(missing: list[int]) -> list[int]:
    """The shards that any process lacks, so that all of them compute the same: its folder may not be shared."""
    if jax.process_count() == 1:
        return missing
    from jax.experimental import multihost_utils

    # Gathering wants one shape everywhere: a flag a shard.
    flags = np.zeros(max(missing, default=-1) + 1, np.int32)
    flags[missing] = 1
    longest = int(multihost_utils.process_allgather(np.int32(len(flags))).max())
    flags = np.pad(flags, (0, longest - len(flags)))
    return np.flatnonzero(multihost_utils.process_allgather(flags).max(axis=0)).tolist()
