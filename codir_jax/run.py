"""One stage from config to results: build, resume, train, evaluate, keep the best, write `results.json`."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax import build, preflight
from codir_jax import config as config_lib
from codir_jax import workdir as workdir_lib
from codir_jax.convert import huggingface
from codir_jax.data import pipeline, teacher_cache
from codir_jax.data.batch import Dataset
from codir_jax.data.tokenizer import save_tokenizer
from codir_jax.evaluate import cost, runner
from codir_jax.models.heads import abstract_params
from codir_jax.objectives import distill
from codir_jax.objectives.contract import Setting
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import placement, rules
from codir_jax.train import checkpoint, loop, optimizer
from codir_jax.train import state as state_lib
from codir_jax.train.metrics import MetricBuffer, MetricWriter
from codir_jax.train.step import make_train_step

# Besides every loss, what a person watches; all metrics are in metrics.jsonl.
ON_CONSOLE = ("num_negatives", "retrieval_rate", "teacher_agreement", "learning_rate")


def run(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Trains the stage that `config` describes and returns what `results.json` holds.

    A workdir with a checkpoint of the same config is resumed; a finished one is returned as it is.

    Raises:
      ValueError, FileNotFoundError: bad config or data, told before anything is computed.
      loop.Interrupted: Ctrl-C or SIGTERM, after a checkpoint was written.
      metrics.NonFiniteError: NaN or infinity in a loss term.
    """
    build.check(config)
    workdir = Path(workdir)
    finished = workdir_lib.claim(config, workdir)
    if finished is not None:
        loop.say(f"{workdir}: already finished; remove the folder to run it again")
        return finished
    stage = _Stage(config, workdir)
    return stage.train()


class _Stage:
    """The parts of a running stage; `train` puts them together."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self.config, self.workdir = config, workdir
        self.tokenizer = build.make_tokenizer(config)
        self.data = build.read_data(config, self.tokenizer)
        info = self.data.info
        preflight.require_split(self.data, "train")
        loop.say(preflight.describe(self.data))
        self.teacher = build.make_teacher(config, info) if config.teacher.path else None
        self.student = build.make_student(config, info, self.teacher, self.tokenizer)
        loop.say(preflight.describe_models(config, self.student, self.teacher))
        preflight.check_length(config, self.student)

        self.mesh = mesh_lib.make_mesh(config.mesh)
        self.rules = mesh_lib.rules_of(config.mesh)
        self.batch_sharding = rules.batch_sharding(self.mesh, self.rules)
        preflight.check_batch_sizes(config, rules.num_batch_shards(self.mesh, self.rules))

        train = self.data.splits["train"]
        self.steps_per_epoch = pipeline.num_batches_per_epoch(len(train), config.data.batch_size)
        epoch = {"steps_per_epoch": self.steps_per_epoch}
        self.num_steps = config_lib.duration_steps(config.train, "total", **epoch)
        whole = {**epoch, "num_steps": self.num_steps}
        warmup_steps = config_lib.duration_steps(config.optimizer, "warmup", **whole)
        self.eval_every = max(config_lib.duration_steps(config.train, "eval_every", **whole), 1)
        self.checkpoint_every = max(config_lib.duration_steps(config.train, "checkpoint_every", **whole), 1)
        self.schedule = optimizer.make_schedule(config.optimizer, self.num_steps, warmup_steps)
        self.tx = optimizer.make_optimizer(config.optimizer, self.schedule)
        self.setting = Setting(
            student=self.student.module,
            teacher=self.teacher.module if self.teacher else None,
            info=info,
            labels=train.labels,
            is_labelled=train.is_labelled,
            text_ids=train.text_ids,
            num_steps=self.num_steps,
        )
        self.objective = build.make_objective(config.objective, self.setting)
        self.distils = config.objective.name != "finetune"
        self.forward = runner.make_forward(self.student.module)
        self.teacher_params = None
        self.teacher_dev_logits = None
        self.teacher_dev: dict[str, float] = {}

    def train(self) -> dict[str, Any]:
        """Runs the stage to its end."""
        if self.distils:
            self._examine_teacher()
        extra = self._teacher_outputs() if self.distils and self.config.teacher.cache_dir else {}
        state, frozen, shardings = self._initial_state(keep_teacher=self.distils and not extra)
        checkpointer = checkpoint.Checkpointer(self.workdir / "checkpoints", self.config.train.keep_checkpoints)
        facts = {"best_score": None, "best_step": 0, "best": {}, "seconds": 0.0, "pending": {}, **self._fingerprints()}
        if checkpointer.latest_step() is not None:
            state, saved = checkpointer.restore(state)
            preflight.check_fingerprints(facts, saved)
            facts = saved
            loop.say(f"resumed from {self.workdir}/checkpoints at step {int(state.step)} of {self.num_steps}")
        start_step = int(state.step)
        writer = MetricWriter(self.workdir, start_step)
        buffer = MetricBuffer(facts["pending"])
        clock = loop.Clock(facts["seconds"])
        last: dict[str, float] = facts.get("last", {})

        def log(step, _):
            values = buffer.flush()
            values["learning_rate"] = float(self.schedule(step - 1))
            writer.write(step, values)
            told = {k: v for k, v in values.items() if k.endswith("loss") or k in ON_CONSOLE}
            loop.say(f"step {step}/{self.num_steps}  " + "  ".join(f"{k} {v:.4g}" for k, v in told.items()))

        def evaluate(step, current):
            nonlocal last
            if "dev" not in self.data.splits:
                if step == self.num_steps:
                    self._save_best(current.params["student"])
                return
            last = self._evaluate_dev(current.params["student"])
            writer.write(step, {f"dev_{k}": v for k, v in last.items()})
            value = last[self.data.info.metrics[0]]
            is_best = facts["best_score"] is None or value > facts["best_score"]
            loop.say(
                f"step {step}/{self.num_steps}  dev: "
                + "  ".join(f"{k} {v:.4f}" for k, v in last.items())
                + ("  (best so far)" if is_best else "")
            )
            if is_best:
                facts.update(best_score=value, best_step=step, best=last)
                self._save_best(current.params["student"])

        def save(step, current, wait=False):
            facts.update(seconds=clock.seconds(), pending=buffer.pending(), last=last)
            checkpointer.save(current, facts, wait=wait)

        step_fn = make_train_step(self.objective, self.tx, prng_impl=self.config.train.prng_impl, shardings=shardings)
        try:
            state = loop.run(
                step_fn,
                state,
                frozen,
                self._device_batches(start_step, extra),
                start_step=start_step,
                num_steps=self.num_steps,
                buffer=buffer,
                hooks=[
                    loop.Hook(self.config.train.log_every_steps, log),
                    loop.Hook(self.eval_every, evaluate),
                    loop.Hook(self.checkpoint_every, save),
                ],
                on_stop=lambda step, current: save(step, current, wait=True),
                name=self.workdir.name,
            )
        finally:
            checkpointer.close()
            writer.close()
        results = self._results(facts, last, clock.seconds())
        if jax.process_index() == 0:
            workdir_lib.write_json(self.workdir / "results.json", results)
        return results

    def _device_batches(self, start_step: int, extra):
        batches = pipeline.train_batches(
            self.data.splits["train"],
            **self._batching(),
            batch_size=self.config.data.batch_size,
            seed=self.config.seed,
            window=self.config.data.bucket_window,
            start_step=start_step,
            num_steps=self.num_steps,
            extra=extra,
        )
        return (placement.put_batch(batch, self.batch_sharding) for batch in batches)

    def _batching(self) -> dict[str, Any]:
        return {
            "length_buckets": tuple(self.config.data.length_buckets),
            "pad_token_id": self.data.pad_token_id,
            "process_index": jax.process_index(),
            "process_count": jax.process_count(),
        }

    def _eval_batches(self, split: str):
        return pipeline.eval_batches(
            self.data.splits[split], **self._batching(), batch_size=self.config.data.eval_batch_size
        )

    def _collect(self, forward, params, split: str):
        size = len(self.data.splits[split])
        return runner.collect(forward, params, self._eval_batches(split), size, self.batch_sharding)

    def _evaluate_dev(self, params) -> dict[str, float]:
        logits = self._collect(self.forward, params, "dev")
        info = self.data.info
        scores = runner.score(logits, self.data.splits["dev"].labels, info.metrics, info.is_regression)
        if self.teacher_dev_logits is not None:
            scores |= runner.distance_to_teacher(logits, self.teacher_dev_logits, info.is_regression)
        return scores

    def _examine_teacher(self) -> None:
        """Puts the teacher on the devices; refuses one that knows no more than the majority class."""
        boxed = abstract_params(self.teacher.module)
        self.teacher_params = jax.device_put(self.teacher.params, rules.shardings(boxed, self.mesh, self.rules))
        if "dev" not in self.data.splits:
            return
        info, dev = self.data.info, self.data.splits["dev"]
        self.teacher_dev_logits = self._collect(runner.make_forward(self.teacher.module), self.teacher_params, "dev")
        self.teacher_dev = runner.score(self.teacher_dev_logits, dev.labels, info.metrics, info.is_regression)
        loop.say("teacher dev: " + "  ".join(f"{k} {v:.4f}" for k, v in self.teacher_dev.items()))
        weakness = preflight.teacher_weakness(self.teacher_dev_logits, dev.labels, info.is_regression)
        if weakness and not self.config.teacher.allow_weak:
            raise ValueError(
                f"the teacher {self.config.teacher.path} {weakness} on dev, so there is nothing to distil; fine-tune "
                "it on this task, check data.label_names, or set --config.teacher.allow_weak=true"
            )

    def _teacher_outputs(self) -> dict[str, np.ndarray]:
        """Teacher logits and pooled states of the whole train set, from the cache or computed now."""
        objective = self.config.objective
        layers = [teacher for _, teacher in distill.matches(objective, self.setting)]
        key = teacher_cache.fingerprint(
            teacher=self.teacher.source.fingerprint,
            data=self.data.fingerprint,
            layers=layers,
            pooling=objective.pooling,
            dtype=self.config.teacher.dtype,
        )

        def view(params, batch):
            return distill.teacher_view(objective, self.setting, params, batch)

        def compute():
            loop.say(f"running the teacher once over {len(self.data.splits['train'])} train examples ...")
            return self._collect(jax.jit(view), self.teacher_params, "train")

        return teacher_cache.load_or_compute(self.config.teacher.cache_dir, key, compute)

    def _initial_state(self, keep_teacher: bool):
        """(state, frozen, shardings of the step): initialised in place on the mesh, then filled from checkpoints."""
        example = next(iter(self._eval_batches("train")))
        seed, impl = self.config.seed, self.config.train.prng_impl
        batch = jax.tree.map(jnp.asarray, example)

        def init(seed_array):
            params, frozen, objective_state = self.objective.init(jax.random.key(seed_array), batch)
            frozen = {k: v for k, v in frozen.items() if k != "teacher"}
            return params, frozen, objective_state

        boxed = jax.eval_shape(init, 0)
        params_sharding, frozen_sharding, state_sharding = rules.shardings(boxed, self.mesh, self.rules)
        params, frozen, objective_state = jax.jit(
            lambda s: rules.unbox(init(s)), out_shardings=(params_sharding, frozen_sharding, state_sharding)
        )(seed)
        if self.student.params is not None:
            params["student"] = jax.device_put(self.student.params, params_sharding["student"])
        if keep_teacher:
            frozen["teacher"] = self.teacher_params
        else:
            self.teacher_params = None  # its outputs are kept; its memory is not needed any more

        def create(params, objective_state):
            return state_lib.create(params, objective_state, self.tx, seed, impl)

        abstract = jax.eval_shape(create, params, objective_state)
        whole = rules.replicated(self.mesh)
        state_shardings = state_lib.shardings(abstract, params_sharding, state_sharding, whole)
        state = jax.jit(create, out_shardings=state_shardings)(params, objective_state)
        frozen_shardings = jax.tree.map(lambda x: x.sharding, frozen)
        return state, frozen, (state_shardings, frozen_shardings, self.batch_sharding)

    def _save_best(self, params) -> None:
        """Replaces `best/`, a Hugging Face folder, in one rename."""
        if jax.process_index() != 0:
            return
        folder, aside = self.workdir / "best", self.workdir / "best.part"
        save_model(aside, self.student, jax.tree.map(placement.fetch, params), self.tokenizer, self.data)
        workdir_lib.replace_folder(aside, folder)

    def _fingerprints(self) -> dict[str, str]:
        teacher = self.teacher.source.fingerprint if self.teacher else ""
        return {"data_fingerprint": self.data.fingerprint, "teacher_fingerprint": teacher}

    def _results(self, facts, last, seconds: float) -> dict[str, Any]:
        info = self.data.info
        best = self.workdir / "best"
        results = {
            "name": self.config.objective.name,
            "task": info.name,
            "primary_metric": info.metrics[0],
            "dev": facts["best"],
            "dev_last": last,
            "best_step": facts["best_step"],
            "num_steps": self.num_steps,
            "seed": self.config.seed,
            "parameters": cost.count_parameters(abstract_params(self.student.module)),
            "seconds": round(seconds, 1),
            "num_examples": {name: len(split) for name, split in self.data.splits.items()},
            "num_truncated": info.num_truncated,
            "best_fingerprint": huggingface.load_pretrained(best, num_labels=info.num_classes).fingerprint,
            **self._fingerprints(),
            "teacher_dev": self.teacher_dev,
            **workdir_lib.environment(),
        }
        return results


def save_model(folder: Path, model: build.Model, params, text_tokenizer, data: Dataset) -> None:
    """Writes a Hugging Face folder: config.json, model.safetensors, tokenizer files."""
    hf_config = model.source.hf_config if model.source else None
    info = data.info
    huggingface.save_pretrained(
        folder,
        model.config,
        params,
        label_names=info.label_names or None,
        is_regression=info.is_regression,
        hf_config=hf_config,
    )
    save_tokenizer(text_tokenizer, folder)
