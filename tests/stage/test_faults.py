"""What a run does when the disk is full, its folder is taken, or a loss is not finite."""

import itertools
import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import save
from codir_jax.objectives.contract import Objective
from codir_jax.processes.fields import field
from codir_jax.processes.user_error import UserError
from codir_jax.stage import models as partners
from codir_jax.stage import results as outcome
from codir_jax.stage import run, workdir
from codir_jax.training import checkpoint, loop, metrics, optimizer
from codir_jax.training import state as state_lib
from codir_jax.training.step import make_train_step

SMALL = [
    ("data.demo_num_train", "192"),
    ("data.demo_num_dev", "64"),
    ("data.batch_size", "32"),
    ("data.eval_batch_size", "32"),
    ("train.log_every_steps", "4"),
    ("train.checkpoint_every_steps", "2"),
]


def _config(*changes):
    return config_lib.load("configs/codir/finetune_teacher.py:tiny", [*SMALL, *changes])


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(tmp_path, monkeypatch):
    """After the first checkpoint no file may grow beyond a kilobyte, which to a writer is like a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = checkpoint.Checkpointer.save

    def save_on_a_filling_disk(self, *args, **options):
        save(self, *args, **options)
        self.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpointer, "save", save_on_a_filling_disk)
        try:
            with pytest.raises(
                checkpoint.WriteError, match=r"step 4 could not be written .* step 2 is intact"
            ) as error:
                run.run(_config(), tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in str(error.value)
    assert not (tmp_path / "results.json").exists()
    results = run.run(_config(), tmp_path)
    assert results["num_steps"] == 6
    lines = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [4, 6, 6]


def test_a_best_model_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model").write_text("old")

    def fail(*_, **__):
        raise RuntimeError("I/O error: No space left on device")

    monkeypatch.setattr(save, "save_pretrained", fail)
    model = partners.Model(None, None, None, None)
    with pytest.raises(OSError, match=r"best model cannot be written to .*best .*No space left"):
        outcome.save_best(tmp_path, model, {"w": jnp.ones(2)}, None, head="classification")
    assert (tmp_path / "best" / "model").read_text() == "old"


def test_metrics_that_cannot_be_written_are_told(tmp_path):
    writer = metrics.MetricWriter(tmp_path / "run", 0)
    (tmp_path / "run" / "metrics.jsonl").mkdir()  # nobody, not even root, appends to a folder
    with pytest.raises(OSError, match=r"metrics of step 3 cannot be written to .*run"):
        writer.write(3, {"loss": 1.0})
    writer.close()


def test_a_workdir_in_use_is_refused_and_free_again_afterwards(tmp_path):
    with workdir.held(tmp_path), pytest.raises(ValueError, match=r"in use by process \d+ on .*, since 2"):
        run.run(_config(), tmp_path)
    with workdir.held(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".codir-run", "lock"]


@pytest.fixture
def any_rate(monkeypatch):
    """Rates that the schema refuses, since nothing is learnt with them."""
    monkeypatch.setitem(optimizer.FIELDS, "learning_rate", field(5e-5, "peak of the rate", above=0))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_results_that_cannot_be_read_are_named(text, tmp_path):
    assert workdir.read_results(tmp_path) is None
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json does not hold the results of a run.*remove it"):
        workdir.read_results(tmp_path)


def test_a_state_that_is_not_finite_is_never_saved(any_rate, tmp_path):
    """The update of a finite loss can be infinite; the loss shows it only one step later."""
    changes = {"optimizer.learning_rate": "1e39", "optimizer.warmup_percent": "0", "train.checkpoint_every_steps": "1"}
    with pytest.raises(metrics.NonFiniteError, match="after step 1; they are not saved"):
        run.run(_config(*changes.items()), tmp_path)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_a_run_stops_when_too_many_updates_were_left_out(any_rate, tmp_path):
    config = _config(("optimizer.learning_rate", "1e38"), ("train.max_skipped_updates", "2"))
    with pytest.raises(metrics.NonFiniteError, match=r"is nan at step \d .*2 updates were left out before"):
        run.run(config, tmp_path)


def test_after_a_skipped_update_the_logged_rate_is_what_was_applied(tmp_path, monkeypatch):
    """SGD moves the parameters by rate * gradient, so that the move over the gradient's norm is the rate."""
    moves, original = [], loop.run

    def poisoned(batches):
        for number, batch in enumerate(batches, 1):
            bad = number == 2
            yield {k: v * np.inf if bad and v.dtype == np.float32 else v for k, v in batch.items()}

    def watched(step_fn, state, frozen, batches, **options):
        def step(state, frozen, batch):
            before = jax.tree.map(np.asarray, state.params)
            state, told = step_fn(state, frozen, batch)
            move = optax.tree.norm(jax.tree.map(lambda a, b: np.asarray(a, float) - b, state.params, before))
            moves.append(float(move) / float(told["gradient_norm"][0]))
            return state, told

        return original(step, state, frozen, poisoned(batches), **options)

    monkeypatch.setattr(loop, "run", watched)
    changes = {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": "1.0",
        "optimizer.weight_decay": "0",
        "optimizer.clip_norm": "0",
        "optimizer.warmup_steps": "1",
        "train.max_skipped_updates": "1",
        "train.log_every_steps": "1",
        "train.eval_every_steps": "6",
    }
    run.run(_config(*changes.items()), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert np.isnan(moves[1]) and len(set(logged)) == 6
    np.testing.assert_allclose(moves[2:], logged[2:], rtol=1e-3)


def test_rules_that_do_not_fit_the_parameters_are_refused_before_a_step(tmp_path):
    rules = "('student/encoder/.*: frozen', 'student/pooler/.*: rate=2')"
    with pytest.raises(UserError, match="no pattern matches the parameter 'student/classifier/bias'"):
        run.run(_config(("optimizer.rules", rules)), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists() and not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_a_run_with_a_frozen_encoder_is_resumed(tmp_path, monkeypatch):
    """Its checkpoint has no moments of the encoder, and the encoder is that of the start."""
    rules = "('student/encoder/.*: frozen', 'student/(pooler|classifier)/.*: rate=2')"
    config = _config(("optimizer.rules", rules))
    seen, original = [], loop.run

    def watched(step_fn, state, frozen, batches, **options):
        seen.append(jax.tree.map(np.asarray, (state.step, state.params["student"]["encoder"])))
        is_first = len(seen) == 1
        state = original(step_fn, state, frozen, itertools.islice(batches, 3 if is_first else None), **options)
        seen.append(jax.tree.map(np.asarray, (state.step, state.params["student"]["encoder"])))
        if is_first:
            raise InterruptedError
        return state

    monkeypatch.setattr(loop, "run", watched)
    with pytest.raises(InterruptedError):
        run.run(config, tmp_path)
    run.run(config, tmp_path)
    assert [int(step) for step, _ in seen] == [0, 3, 2, 6]
    for _, encoder in seen[1:]:
        jax.tree.map(np.testing.assert_array_equal, encoder, seen[0][1])


def _make_step(**options):
    """Linear regression whose objective state counts the calls."""

    def loss(params, frozen, objective_state, batch, rng):
        value = jnp.mean((params["w"] * batch - 1.0) ** 2)
        return value, ({"calls": objective_state["calls"] + 1}, {"task_loss": (value, 1.0)})

    tx = optax.adam(0.1)
    step = make_train_step(Objective(init=None, loss=loss), tx, num_steps=10, prng_impl="threefry2x32", **options)
    params = {"w": jnp.ones(3)}
    return step, state_lib.create(params, {"calls": jnp.int32(0)}, tx, 0, "threefry2x32")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e25])
def test_an_update_that_is_not_finite_leaves_everything_but_the_step_as_it_was(bad):
    """1e25 squared is infinite in the loss; the state after the skipped step is that before it."""
    step, state = _make_step(skips_non_finite=True)
    state, first = step(state, None, jnp.float32(0.5))
    before = jax.tree.map(np.asarray, state)
    state, second = step(state, None, jnp.float32(bad))
    assert int(state.step) == 2 and int(before.step) == 1
    for name in ("params", "opt_state", "objective_state", "rng"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(state, name))
    assert [float(m["skipped_updates"][0]) for m in (first, second)] == [0, 1]
    state, third = step(state, None, jnp.float32(0.5))
    assert np.isfinite(float(third["loss"][0])) and int(state.objective_state["calls"]) == 2


def test_without_the_option_the_step_is_as_it_was():
    step, state = _make_step()
    _, told = step(state, None, jnp.float32(0.5))
    assert metrics.SKIPPED not in told


def test_left_out_updates_are_counted_and_are_in_no_mean():
    def pair(value):
        return jnp.float32(value), jnp.float32(1)

    told = []
    buffer = metrics.MetricBuffer(skipped=1, max_skipped=3, tell=told.append)
    for step, value in ((7, 2.0), (8, float("nan")), (9, 4.0)):
        buffer.append(step, {"task_loss": pair(value), "skipped_updates": pair(float(np.isnan(value)))})
    assert buffer.flush() == {"task_loss": 3.0, "skipped_updates": 2.0}
    assert "2 of train.max_skipped_updates=3: task_loss is nan at step 8" in told[0]
    buffer.append(10, {"task_loss": pair(np.inf), "loss": pair(np.inf), "skipped_updates": pair(1.0)})
    buffer.append(11, {"loss": pair(np.nan), "task_loss": pair(np.nan), "skipped_updates": pair(1.0)})
    with pytest.raises(metrics.NonFiniteError, match=r"task_loss is nan at step 11 .*; 3 updates were left out before"):
        buffer.flush()


@pytest.mark.parametrize("field", ["keep_last", "keep_every_steps", "keep_best", "max_skipped_updates"])
def test_policies_that_make_no_sense_are_refused(field, tmp_path):
    with pytest.raises(ValueError, match=f"train.{field}=-1: expected a whole number"):
        run.run(_config((f"train.{field}", "-1")), tmp_path)
