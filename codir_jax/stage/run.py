"""One stage from config to results: build, resume, train, evaluate, keep the best, write `results.json`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.plan import job, report
from codir_jax.processes import console, distributed
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import build
from codir_jax.stage import checks as preflight
from codir_jax.stage import config as stage_config
from codir_jax.stage import results as outcome
from codir_jax.stage import workdir as workdir_lib
from codir_jax.stage.initial_state import InitialState, shardings_of
from codir_jax.tasks.classification import Classification
from codir_jax.tasks.masked_lm import Pretraining
from codir_jax.training import checkpoint, loop, optimizer
from codir_jax.training.metrics import MetricBuffer, MetricWriter, SilentWriter, require_finite
from codir_jax.training.step import make_train_step

# Besides every loss, what a person watches; all metrics are in metrics.jsonl.
ON_CONSOLE = ("num_negatives", "retrieval_rate", "teacher_agreement", "learning_rate")


def run(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Trains the stage that `config` describes and returns what `results.json` holds.

    A workdir with a checkpoint of the same config is resumed; a finished one is returned as it is.

    Raises:
      UserError: bad config or data, a workdir of another run, or one in use; told before anything
        is computed.
      OSError: a full disk; checkpoint.WriteError names the checkpoint that could not be written.
      loop.Interrupted: Ctrl-C or SIGTERM, after a checkpoint was written.
      metrics.NonFiniteError: NaN or infinity in a loss term.
    """
    stage_config.check(config)
    workdir = Path(workdir)
    with workdir_lib.held(workdir):
        finished = distributed.first_decides(lambda: workdir_lib.claim(config, workdir))
        if finished is not None:
            console.say(f"{workdir}: already finished; remove the folder to run it again")
            return finished
        return _Stage(config, workdir).train()


class _Stage:
    """The parts of a running stage; `train` puts them together."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self.config, self.workdir = config, workdir
        self.mesh = mesh_lib.make_mesh(config.mesh)
        self.rules = mesh_lib.rules_of(config.mesh)
        preflight.check_batch_sizes(config, rules.num_batch_shards(self.mesh, self.rules), distributed.num_processes())
        kind = Pretraining if stage_config.is_pretraining(config) else Classification
        self.task = kind(config)
        console.say(preflight.describe_models(config, self.task.student, self.task.teacher))
        self.task.lay_out(self.mesh, self.rules)
        self.feed = self.task.feed
        console.say(
            f"padded lengths: {', '.join(map(str, self.feed.length_buckets))}; {self.feed.real_token_share:.1%} of the "
            "positions in a train batch are real tokens"
        )

        epoch = {"steps_per_epoch": self.feed.steps_per_epoch}
        self.num_steps = config_lib.duration_steps(config.train, "total", **epoch)
        whole = {**epoch, "num_steps": self.num_steps}
        warmup_steps = config_lib.duration_steps(config.optimizer, "warmup", **whole)
        self.eval_every = max(config_lib.duration_steps(config.train, "eval_every", **whole), 1)
        self.checkpoint_every = max(config_lib.duration_steps(config.train, "checkpoint_every", **whole), 1)
        self.schedule = optimizer.make_schedule(
            config.optimizer, self.num_steps, warmup_steps, self.feed.steps_per_epoch
        )
        self.tx = optimizer.make_optimizer(config.optimizer, self.schedule)
        self.setting = self.task.setting(self.num_steps)
        self.objective = build.make_objective(config.objective, self.setting)

    def train(self) -> dict[str, Any]:
        """Runs the stage to its end."""
        given, extra = self.task.teach(self.setting, needs_cache=self.objective.tables is not None)
        state, frozen, shardings = self._initial_state(given, extra)
        console.say(self._start_table(state, frozen))
        options = self.config.train
        kept = {name: options[name] for name in ("keep_last", "keep_every_steps", "keep_best")}
        checkpointer = checkpoint.Checkpointer(self.workdir / "checkpoints", **kept, tell=console.say)
        facts = {"best_score": None, "best_step": 0, "best": {}, "seconds": 0.0, "pending": {}, "skipped": 0}
        facts |= self._fingerprints()
        restored = checkpointer.restore(state)
        if restored is not None:
            state, saved = restored
            preflight.check_fingerprints(facts, saved)
            facts = saved
            console.say(f"resumed from {self.workdir}/checkpoints at step {int(state.step)} of {self.num_steps}")
        start_step = int(state.step)
        writer = MetricWriter(self.workdir, start_step) if distributed.process_id() == 0 else SilentWriter()
        buffer = MetricBuffer(
            facts["pending"], skipped=facts["skipped"], max_skipped=options.max_skipped_updates, tell=console.say
        )
        clock = loop.Clock(facts["seconds"])
        last: dict[str, float] = facts.get("last", {})

        def log(step, _):
            values = buffer.flush()
            values["learning_rate"] = float(self.schedule(step - 1))
            writer.write(step, values)
            told = {k: v for k, v in values.items() if k.endswith("loss") or k in ON_CONSOLE}
            console.say(f"step {step}/{self.num_steps}  " + "  ".join(f"{k} {v:.4g}" for k, v in told.items()))

        def evaluate(step, current):
            nonlocal last
            if not self.task.has_dev:
                if step == self.num_steps:
                    self.task.save_best(self.workdir, current.params["student"])
                return
            last = self.task.evaluate(current.params, frozen)
            writer.write(step, {f"dev_{k}": v for k, v in last.items()})
            value = self.task.score(last)
            is_best = facts["best_score"] is None or value > facts["best_score"]
            console.say(
                f"step {step}/{self.num_steps}  dev: "
                + "  ".join(f"{k} {v:.4f}" for k, v in last.items())
                + ("  (best so far)" if is_best else "")
            )
            if is_best:
                facts.update(best_score=value, best_step=step, best=last)
                self.task.save_best(self.workdir, current.params["student"])

        def save(step, current, wait=False):
            facts.update(seconds=clock.seconds(), pending=buffer.pending(), skipped=buffer.skipped, last=last)
            require_finite(current, step)
            is_evaluated = last and (step % self.eval_every == 0 or step == self.num_steps)
            score = self.task.score(last) if is_evaluated else None
            checkpointer.save(current, facts, score=score, wait=wait)

        step_fn = make_train_step(
            self.objective,
            self.tx,
            prng_impl=options.prng_impl,
            shardings=shardings,
            layout=(self.mesh, self.rules),
            skips_non_finite=options.max_skipped_updates > 0,
        )
        batches = loop.TimedInput(self.feed.train(start_step, self.num_steps, extra))
        try:
            state = loop.run(
                step_fn,
                state,
                frozen,
                batches,
                start_step=start_step,
                num_steps=self.num_steps,
                buffer=buffer,
                hooks=[
                    loop.Hook(1, lambda step, current: checkpointer.check()),
                    loop.Hook(options.log_every_steps, log),
                    loop.Hook(self.eval_every, evaluate),
                    loop.Hook(self.checkpoint_every, save),
                ],
                on_stop=lambda step, current: save(step, current, wait=True),
                name=self.workdir.name,
            )
            checkpointer.wait()
        finally:
            checkpointer.close()
            writer.close()
        return self._write_results(facts, last, clock.seconds(), batches.wait_share())

    def _initial_state(self, given: Mapping[str, Any], extra: Mapping[str, Any]):
        """(state, frozen, shardings of the step).

        Args:
          given: the teacher's weights where it runs live.
          extra: the teacher's outputs on the train set where they are cached, else empty.
        """
        start = InitialState(
            objective=self.objective,
            tx=self.tx,
            example=self.feed.example(),
            mesh=self.mesh,
            rules=self.rules,
            seed=self.config.seed,
            prng_impl=self.config.train.prng_impl,
        )
        abstract = start.abstract(without=() if given else ("teacher",))
        if self.objective.tables:
            console.say(f"negatives from the teacher cache: {len(extra['teacher_pooled'])} rows on every device ...")
        given = {**given, **start.tables(extra)}
        state, frozen = start.fill(abstract, self.task.student.params, given)
        return state, frozen, (*shardings_of((state, frozen)), self.feed.sharding)

    def _start_table(self, state, frozen) -> str:
        feed, places = self.feed, (self.mesh, self.rules)
        shapes = feed.num_train, feed.length_buckets, *places, state, frozen, feed.steps_per_epoch
        planned = job.of_run(self.config, self.setting, *shapes)
        return report.at_start(planned, distributed.num_processes(), jax.default_backend())

    def _fingerprints(self) -> dict[str, str]:
        teacher = self.task.teacher.source.fingerprint if self.task.teacher else ""
        return {"data_fingerprint": self.task.fingerprint, "teacher_fingerprint": teacher}

    def _write_results(self, facts, last, seconds: float, input_wait_share: float) -> dict[str, Any]:
        told = {
            "name": self.config.objective.name,
            "primary_metric": self.task.metrics[0],
            "dev": facts["best"],
            "dev_last": last,
            "best_step": facts["best_step"],
            "num_steps": self.num_steps,
            "skipped_updates": facts["skipped"],
            "seed": self.config.seed,
            "seconds": round(seconds, 1),
            "input_wait_share": round(input_wait_share, 4),
            "length_buckets": list(self.feed.length_buckets),
            "real_token_share": round(self.feed.real_token_share, 4),
            **self._fingerprints(),
        }
        return outcome.write_results(self.workdir, self.task.student, lambda: {**told, **self.task.facts(self.workdir)})
