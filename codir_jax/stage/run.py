"""One stage from config to results: resume, train, evaluate, keep the best, write `results.json`."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax.convert import pretrained
from codir_jax.evaluation import cost
from codir_jax.objectives.contract import needs_cache
from codir_jax.processes import console, distributed, environment, stop
from codir_jax.processes.user_error import UserError
from codir_jax.stage import checks, results
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir as workdir_lib
from codir_jax.stage.assembled import Stage
from codir_jax.stage.teacher import Teacher
from codir_jax.tasks.contract import train_batches
from codir_jax.training import checkpoint, health, loop
from codir_jax.training.health import Learned
from codir_jax.training.metrics import MetricBuffer, MetricWriter, SilentWriter, require_finite
from codir_jax.training.pace import Pace

# Besides every loss, what a person watches; all metrics are in metrics.jsonl.
ON_CONSOLE = ("num_negatives", "retrieval_rate", "teacher_agreement", "learning_rate")


# (workdir, step, name -> value): what a caller is told while a stage runs.
Watcher = Callable[[str, int, dict[str, float]], None]


def run(
    config: ConfigDict,
    workdir: str | os.PathLike,
    on_start: Callable[[Stage, Any, Any], str] | None = None,
    *,
    on_step: Watcher | None = None,
    on_evaluation: Watcher | None = None,
) -> dict[str, Any]:
    """Trains the stage that `config` describes and returns what `results.json` holds.

    A workdir with a checkpoint of the same config is resumed; a finished one is returned as it is.

    Args:
      on_start: (stage, state, frozen) -> what is told before the first step.
      on_step: called every `train.log_every_steps` with the means since the last call. on_evaluation: called with the
        scores on dev. Both in the first process only.

    Raises:
      UserError: bad config or data, a workdir of another run, or one in use; told before anything is computed.
      CannotWriteError: a full disk; checkpoint.WriteError names the checkpoint that could not be written.
      loop.Interrupted: Ctrl-C or SIGTERM, after a checkpoint was written.
      metrics.NonFiniteError: NaN or infinity in a loss term.
    """
    stage_config.check(config)
    if config.train.deterministic:
        environment.make_deterministic()
    workdir = Path(workdir)
    with workdir_lib.held(workdir):
        finished = distributed.first_decides(lambda: workdir_lib.claim(config, workdir))
        if finished is not None:
            console.say(f"{workdir}: already finished; remove the folder to run it again")
            return finished
        is_first = distributed.process_id() == 0
        watchers = (on_step, on_evaluation) if is_first else (None, None)
        return _Run(Stage.of(config), workdir, on_start, *watchers).train()


class _Run:
    """A stage that is trained in a workdir."""

    def __init__(self, stage: Stage, workdir: Path, on_start, on_step=None, on_evaluation=None):
        self.stage, self.workdir, self.config = stage, workdir, stage.config
        self.on_start, self.on_step, self.on_evaluation = on_start, on_step, on_evaluation
        console.say(checks.describe_models(stage.config, stage.student, stage.teacher))
        console.say(
            f"padded lengths: {', '.join(map(str, stage.feed.length_buckets))}; {stage.feed.real_token_share:.1%} of "
            "the positions in a train batch are real tokens"
        )
        if seen := stage.seen_words:
            console.say(
                f"word embedding: {len(seen.ids):,} of {seen.vocab_size:,} rows are trained, those of the train set's "
                "words (student.word_rows)"
            )
        if 0 < (least := self.config.train.at_least_steps) == stage.num_steps and self.config.train.total_epochs >= 0:
            console.say(
                f"length: {least} steps, {least / stage.feed.steps_per_epoch:.1f} epochs (train.at_least_steps; "
                f"train.total_epochs={self.config.train.total_epochs:g} would be fewer)"
            )
        if of_width := self.config.optimizer.of_width:
            console.say(
                f"learning rate: {stage.optimizer_config.learning_rate:g} for {stage.student.config.hidden_size} "
                f"features; {self.config.optimizer.learning_rate:g} is for {of_width} (optimizer.of_width)"
            )
        self.eval_every = max(stage.duration("train", "eval_every"), 1)
        self.checkpoint_every = max(stage.duration("train", "checkpoint_every"), 1)
        # Refused here, before the teacher is run: an objective that cannot be made, or rules that do not fit it.
        checks.check_warmup(stage.duration("optimizer", "warmup"), stage.num_steps)
        self.objective = stage.objective
        stage.abstract_state(live=False)
        if self.config.train.health and not self.objective.terms:
            raise UserError(
                f"train.health=True tells terms of a loss apart, and objective.name={self.config.objective.name!r} has "
                "one; set it to False"
            )
        if stage.distils and self.config.teacher.cache == "on" and self.objective.teacher_view is None:
            raise UserError(
                "teacher.cache='on', but the objective compares the states of every token, which are too many to keep; "
                "set teacher.cache=auto, or compare one vector a text (objective.hidden_unit=text)"
            )
        self.teacher = Teacher(stage) if stage.teacher else None

    def train(self) -> dict[str, Any]:
        """Runs the stage to its end."""
        stage, options, num_steps = self.stage, self.config.train, self.stage.num_steps
        columns = self._teach()
        is_live = stage.distils and not columns
        abstract = stage.abstract_state(live=is_live)
        if needs_cache(self.config.objective):
            console.say(f"tables of the teacher's rows: {stage.feed.num_train} of them, split over the devices ...")
        frozen = stage.frozen(abstract, columns, self.teacher.params if is_live else None)
        kept = {name: options[name] for name in ("keep_last", "keep_every_steps", "keep_best")}
        checkpointer = checkpoint.Checkpointer(self.workdir / "checkpoints", **kept, tell=console.say)
        # A state that is read takes the place of a fresh one: where one fits, two may not.
        state, facts = self._resume(checkpointer, abstract) or (stage.start_state(abstract), self._first_facts())
        if self.on_start:
            console.say(self.on_start(stage, state, frozen))
        judge = stage.judge(self.teacher.reference if self.teacher else None)
        start_step = int(state.step)
        writer = MetricWriter(self.workdir, start_step) if distributed.process_id() == 0 else SilentWriter()
        buffer = MetricBuffer(
            facts["pending"], skipped=facts["skipped"], max_skipped=options.max_skipped_updates, tell=console.say
        )
        clock = loop.Clock(facts["seconds"])
        last: dict[str, float] = facts.get("last", {})

        learned = Learned(self.objective.has_learned, facts.setdefault("learned", {}))
        measure_health = self._health(frozen, columns)

        def log(step, _):
            values = buffer.flush()
            for line in learned.look(step, values):
                console.say(line)
            values["learning_rate"] = float(stage.schedule(step - 1))
            writer.write(step, values)
            if self.on_step:
                self.on_step(str(self.workdir), step, values)
            told = {k: v for k, v in values.items() if k.endswith("loss") or k in ON_CONSOLE}
            told = [f"{k} {v:.4g}" for k, v in told.items()]
            if (seconds := pace.look(step)) is not None and step < num_steps:
                told.append(f"{seconds:.3g} s/step, {console.duration(seconds * (num_steps - step))} left")
            console.say(f"step {step}/{num_steps}  " + "  ".join(told))

        def evaluate(step, current):
            nonlocal last
            if measure_health:
                writer.write(step, measure_health(step, current))
            if "dev" not in stage.task.splits:
                if step == num_steps:
                    self._save_best(current)
                return
            facts["is_unjudged"] = True
            with stop.may_be_cut():
                last = judge(stage.whole(current.params), frozen)
            facts["is_unjudged"] = False
            writer.write(step, {f"dev_{k}": v for k, v in last.items()})
            if self.on_evaluation:
                self.on_evaluation(str(self.workdir), step, dict(last))
            value = self._score(last)
            is_best = facts["best_score"] is None or value > facts["best_score"]
            console.say(
                f"step {step}/{num_steps}  dev: "
                + "  ".join(f"{k} {v:.4f}" for k, v in last.items())
                + ("  (best so far)" if is_best else "")
            )
            if is_best:
                facts.update(best_score=value, best_step=step, best=last)
                self._save_best(current)

        def is_enough(step: int) -> bool:
            if not options.patience or facts["best_score"] is None:
                return False
            since = step // self.eval_every - facts["best_step"] // self.eval_every
            return since >= options.patience and step < num_steps

        def save(step, current, wait=False):
            facts.update(seconds=clock.seconds(), pending=buffer.pending(), skipped=buffer.skipped, last=last)
            require_finite(current, step)
            # Where its evaluation was cut short, the step is judged when the run goes on, and keep_best passes it over.
            is_evaluated = last and not facts.get("is_unjudged") and (step % self.eval_every == 0 or step == num_steps)
            checkpointer.save(current, facts, score=self._score(last) if is_evaluated else None, wait=wait)

        def unpaced(hook):
            def run_hook(step, current):
                with pace.left_out(current):  # the hook would wait for these steps, and hide their time
                    hook(step, current)

            return run_hook

        pace = Pace(start_step, console.say)
        start = stage.initial_state
        make_step = functools.partial(start.step, abstract, skips_non_finite=options.max_skipped_updates > 0)
        step_fn, num_early = make_step(), start.num_early_steps
        batches = loop.TimedInput(train_batches(stage.feed, start_step, num_steps, columns))
        try:
            state = loop.run(
                step_fn,
                state,
                frozen,
                batches,
                start_step=start_step,
                num_steps=num_steps,
                buffer=buffer,
                hooks=[
                    loop.Hook(1, lambda step, current: checkpointer.check()),
                    loop.Hook(options.log_every_steps, log),
                    loop.Hook(self.eval_every, unpaced(evaluate)),
                    loop.Hook(self.checkpoint_every, unpaced(save)),
                ],
                pace=pace,
                early=(num_early, make_step(is_early=True)) if num_early else None,
                catch_up=unpaced(evaluate) if facts.get("is_unjudged") else None,
                on_stop=lambda step, current: save(step, current, wait=True),
                name=self.workdir.name,
                is_enough=is_enough,
            )
            checkpointer.wait()
        finally:
            checkpointer.close()
            writer.close()
        if (num_steps := int(state.step)) < stage.num_steps:
            console.say(
                f"ended at step {num_steps} of {stage.num_steps}: {options.patience} evaluations without a better dev "
                f"score than that of step {facts['best_step']} (train.patience)"
            )
        return self._write_results(facts, last, num_steps, clock.seconds(), batches.wait_share())

    def _health(self, frozen, columns):
        """A function (step, state) -> metrics of the loss's terms on the first batch; None: not asked for."""
        stage, objective = self.stage, self.stage.initial_state.objective
        if not self.config.train.health:
            return None
        batch = next(train_batches(stage.feed, 0, 1, columns))
        measure = health.term_gradients(objective, stage.layout)

        def of_state(step, state):
            found = measure(state.params, frozen, state.objective_state, batch, step / stage.num_steps)
            return {name: float(value) for name, value in found.items()}

        return of_state

    def _teach(self) -> dict[str, Any]:
        """The teacher's rows that join the batches, {} where it runs live or the method needs none."""
        if self.teacher is None:
            return {}
        self.teacher.examine()
        columns = self.teacher.train_rows() if self.stage.distils else {}
        if columns or not self.stage.distils:
            self.teacher.let_go()
        return columns

    def _resume(self, checkpointer: checkpoint.Checkpointer, abstract) -> tuple[Any, dict[str, Any]] | None:
        """(state, facts) of the newest whole checkpoint; None where there is none."""
        restored = checkpointer.restore(abstract[0])
        if restored is None:
            return None
        state, saved = restored
        now = self._fingerprints()
        if untold := checks.check_config(self.config, saved):
            console.say(untold)
        checks.check_fingerprints(now, saved)
        distributed.first_decides(lambda: workdir_lib.write_config(self.config, self.workdir))
        if moved := checks.describe_move(now, saved):
            console.say(moved)
        console.say(f"resumed from {self.workdir}/checkpoints at step {int(state.step)} of {self.stage.num_steps}")
        return state, saved

    def _first_facts(self) -> dict[str, Any]:
        """What is saved beside the state, before the first step."""
        nothing = {"best_score": None, "best_step": 0, "best": {}, "seconds": 0.0, "pending": {}, "skipped": 0}
        nothing |= {"is_unjudged": False, "config": stage_config.binding(self.config)}
        return nothing | self._fingerprints()

    def _score(self, scores: dict[str, float]) -> float:
        """Of the scores the one that the best model is chosen by; more is better."""
        primary = self.stage.task.metrics[0]
        return scores[primary.name] if primary.higher_is_better else -scores[primary.name]

    def _save_best(self, state) -> None:
        task, student = self.stage.task, self.stage.student
        params = self.stage.whole(state.params)
        served = {
            "head": task.head.name,
            "max_length": task.served_length,
            "sides": {name: params[name] for name in self.objective.keeps},
            "beside": task.side_files() if hasattr(task, "side_files") else {},
            "labels": task.labels,
        }
        results.save_best(self.workdir, student, params["student"], task.tokenizer, **served)

    def _fingerprints(self) -> dict[str, Any]:
        stage = self.stage
        return {
            "config_fingerprint": stage_config.fingerprint(self.config),
            "data_fingerprint": stage.task.fingerprint,
            "teacher_fingerprint": stage.teacher.source.fingerprint if stage.teacher else "",
            "arithmetic": environment.arithmetic(),
        }

    def _write_results(self, facts, last, num_steps: int, seconds: float, input_wait_share: float) -> dict[str, Any]:
        stage, head = self.stage, self.stage.task.head

        def told() -> dict[str, Any]:
            best = pretrained.load_pretrained(self.workdir / "best", head=head.name, num_labels=head.num_labels or None)
            return {
                "name": self.config.objective.name,
                **stage.task.facts(),
                "primary_metric": stage.task.metrics[0].name,
                "metrics": [metric._asdict() for metric in stage.task.metrics],
                "dev": facts["best"],
                "dev_last": last,
                "teacher_dev": self.teacher.scores if self.teacher else {},
                "best_step": facts["best_step"],
                "best_fingerprint": best.fingerprint,
                "parameters": cost.count_parameters(best.params),
                "num_steps": num_steps,
                "learning_rate": stage.optimizer_config.learning_rate,
                "skipped_updates": facts["skipped"],
                "nothing_to_teach_since": facts["learned"],
                "seed": self.config.seed,
                "seconds": round(seconds, 1),
                "input_wait_share": round(input_wait_share, 4),
                "length_buckets": list(stage.feed.length_buckets),
                "real_token_share": round(stage.feed.real_token_share, 4),
                **self._fingerprints(),
            }

        return results.write_results(self.workdir, told)
