"""The teacher's side of a stage: examined on dev; its outputs on the train set, live or from the cache."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.data import teacher_cache
from codir_jax.evaluation import runner
from codir_jax.objectives import distill
from codir_jax.objectives.contract import Setting
from codir_jax.processes import console, environment
from codir_jax.processes.cache_folder import user_cache
from codir_jax.processes.user_error import UserError
from codir_jax.stage import checks as preflight
from codir_jax.stage import models as partners
from codir_jax.tasks.labelled_feed import Feed

GIB = 2**30


class Teacher:
    """The frozen teacher of a stage.

    Attributes:
      params: on the devices; None once its outputs are all that is needed.
      dev_logits: float32 [num_dev, classes], None without a dev split.
      dev_scores: its task metrics on dev.
    """

    def __init__(self, config: ConfigDict, model: partners.Model, setting: Setting, feed: Feed, mesh, rules_table):
        self._config, self._model, self._setting, self._feed = config, model, setting, feed
        self.params = model.placed(mesh, rules_table)
        self.dev_logits: np.ndarray | None = None
        self.dev_scores: dict[str, float] = {}

    def examine(self) -> None:
        """Runs it over dev; refuses one that knows no more than the majority class."""
        data = self._feed.data
        if "dev" not in data.splits:
            return
        info, labels = data.info, data.splits["dev"].labels
        self.dev_logits = self._feed.collect(runner.make_forward(self._model.module), self.params, "dev")
        self.dev_scores = runner.score(self.dev_logits, labels, info.metrics, info.is_regression)
        console.say("teacher dev: " + "  ".join(f"{k} {v:.4f}" for k, v in self.dev_scores.items()))
        weakness = preflight.teacher_weakness(self.dev_logits, labels, info.is_regression)
        if weakness and not self._config.teacher.allow_weak:
            raise UserError(
                f"the teacher {self._config.teacher.path} {weakness} on dev, so there is nothing to distil; fine-tune "
                "it on this task, check data.label_names, or set --config.teacher.allow_weak=true"
            )

    def train_outputs(self, steps_per_epoch: int, is_needed: bool = False) -> dict[str, teacher_cache.Rows]:
        """{"teacher_logits", "teacher_pooled"} of the whole train set, kept on disk; {} where the teacher runs live.

        Args:
          steps_per_epoch: of the train set.
          is_needed: the objective takes its negatives from the cache, so "auto" means "on".
        """
        cache = self._cache()
        is_kept, why = decide(self._config.teacher, cache, self._setting.num_steps, steps_per_epoch, is_needed)
        if jax.process_count() > 1:  # disks differ; the first process decides
            from jax.experimental import multihost_utils

            is_kept = bool(multihost_utils.broadcast_one_to_all(np.int32(is_kept)))
        console.say(why)
        if not is_kept:
            return {}
        cache.fill(self._compute, tell=console.say, alone=jax.process_count() == 1, agree=_union)
        self.params = None
        return cache.read()

    def _cache(self) -> teacher_cache.TeacherCache:
        objective, options = self._config.objective, self._config.teacher
        layers = [teacher for _, teacher in distill.matches(objective, self._setting)]
        shapes = {
            "teacher_logits": (self._setting.info.num_classes,),
            "teacher_pooled": (len(layers), self._model.config.hidden_size),
        }
        return teacher_cache.TeacherCache(
            options.cache_dir or user_cache("teacher"),
            teacher_cache.Layout(self._setting.info.num_train, shapes, options.cache_dtype),
            teacher=self._model.source.fingerprint,
            architecture=dataclasses.asdict(self._model.config),  # equal weights in other heads are another model
            data=self._feed.data.fingerprint,  # every token
            layers=layers,
            pooling=objective.pooling,
            dtype=options.dtype,
            arithmetic=environment.arithmetic(),
        )

    def _compute(self, shards: list[range]) -> Iterator[dict[str, np.ndarray]]:
        """Yields the outputs on each stretch of train rows, one of them in memory at a time."""
        if not shards:
            return
        num_examples = self._setting.info.num_train
        num_rows = sum(map(len, shards))
        if not jax.process_index():
            console.say(f"teacher: one pass over {num_rows} of {num_examples} train examples ...")
        view = jax.jit(lambda params, batch: distill.teacher_view(self._config.objective, self._setting, params, batch))
        batches = (batch for rows in shards for batch in self._feed.evaluation("train", rows))
        remaining, arrays = iter(shards), {}
        rows, num_done = next(remaining), 0
        with console.progress_bar("teacher", num_examples - num_rows, num_examples, "text") as bar:
            # No batch crosses the end of a shard, and the batches come in the order of the shards.
            for ids, outputs in runner.each_batch(view, self.params, batches, num_examples, self._feed.sharding):
                for name, part in outputs.items():
                    if name not in arrays:
                        arrays[name] = np.empty((len(rows), *part.shape[1:]), part.dtype)
                    arrays[name][ids - rows.start] = part
                num_done += len(ids)
                bar.update(len(ids))
                if num_done == len(rows):
                    yield arrays
                    rows, num_done, arrays = next(remaining, None), 0, {}


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
      is_needed: as in `Teacher.train_outputs`.
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
