"""A stage as a user runs it: results, resume bit for bit, refusals. Everything at tiny size on the demo task."""

import contextlib
import dataclasses
import functools
import gc
import itertools
import json
import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import fingerprint, pretrained
from codir_jax.data import length_buckets, synthetic, teacher_cache
from codir_jax.processes import environment, stop
from codir_jax.processes.user_error import UserError
from codir_jax.stage import run, workdir
from codir_jax.stage import teacher as teacher_outputs
from codir_jax.stage.assembled import Stage
from codir_jax.tasks import classification
from codir_jax.training import checkpoint, loop

TEACHER = "configs/codir/finetune_teacher.py:tiny"
DISTILL = "configs/codir/finetune_distill.py:tiny"
SMALL = [
    ("data.demo_num_train", "192"),
    ("data.demo_num_dev", "64"),
    ("data.batch_size", "32"),
    ("data.eval_batch_size", "32"),
    ("data.num_length_buckets", "1"),
    ("train.log_every_steps", "4"),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    run.run(config_lib.load(TEACHER, SMALL), folder)
    return folder


def _config(teacher, *overrides, method="paper"):
    shared = [*SMALL, ("teacher.path", str(teacher)), ("student.num_layers", "1")]
    return config_lib.load(f"{DISTILL},{method}", [*shared, *overrides])


def _final_state(workdir):
    """Every array of the last checkpoint, read without the objects that wrote it."""
    import orbax.checkpoint as ocp

    step = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    with ocp.StandardCheckpointer() as reader:
        return step, jax.tree.leaves(reader.restore((workdir / "checkpoints" / str(step) / "state").resolve()))


def _assert_same_end(one, two):
    assert _final_state(one)[0] == _final_state(two)[0]
    for a, b in zip(_final_state(one)[1], _final_state(two)[1], strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert (one / "metrics.jsonl").read_text() == (two / "metrics.jsonl").read_text()
    head = pretrained.stored_head(one / "best")
    ours, theirs = (pretrained.load_pretrained(folder / "best", head=head).fingerprint for folder in (one, two))
    assert ours == theirs


def _stop_after(monkeypatch, steps):
    """Ctrl-C arrives during step `steps` of the next run."""
    original = loop.MetricBuffer.append

    def append(self, step, metrics):
        original(self, step, metrics)
        if step == steps:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
            signal.sigtimedwait([], 0.2)

    monkeypatch.setattr(loop.MetricBuffer, "append", append)


def _stop_in_evaluation(monkeypatch, number):
    """SIGTERM arrives in that evaluation of the next run."""
    original, calls = stop.may_be_cut, itertools.count(1)

    @contextlib.contextmanager
    def may_be_cut():
        with original():
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            yield

    monkeypatch.setattr(stop, "may_be_cut", may_be_cut)


def test_rules_that_do_not_fit_the_parameters_are_refused_before_the_teacher_runs(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "Teacher", None)  # whoever asks it anything fails
    with pytest.raises(ValueError, match="no pattern matches the parameter 'projection_student/bias'"):
        run.run(_config(teacher, ("optimizer.rules", "('student/.*: frozen',)")), tmp_path)


@pytest.mark.parametrize("method", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_a_run_stopped_by_ctrl_c_and_resumed_ends_bit_equal_to_the_straight_run(teacher, tmp_path, monkeypatch, method):
    """Stopped in a step, in an evaluation, and in that of the last step."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    changes = [("train.total_epochs", "2"), ("objective.negatives.num_negatives", "8")]
    config = _config(teacher, *changes, method=method)
    run.run(config, straight)
    with monkeypatch.context() as patch:
        _stop_after(patch, 5)
        with pytest.raises(loop.Interrupted, match="SIGINT after step"):
            run.run(config, stopped)
    for number, step in ((1, 6), (2, 12)):  # the second time the first evaluation is the one that was cut short
        with monkeypatch.context() as patch:
            _stop_in_evaluation(patch, number)
            with pytest.raises(loop.Interrupted, match=f"SIGTERM after step {step}$"):
                run.run(config, stopped)
    assert not (stopped / "results.json").exists()
    (stopped / "config.json").unlink()  # the config lies in the checkpoint, too
    other = _config(teacher, *changes, ("optimizer.learning_rate", "0.1"), method=method)
    with pytest.raises(
        UserError, match=r"checkpoint is of a run of another config(?s:.)*optimizer\.learning_rate: 0\.1"
    ):
        run.run(other, stopped)
    assert not (stopped / "config.json").exists()
    with config.unlocked():
        config.train.keep_last = 3  # of those that do not bind it
    run.run(config, stopped)
    assert json.loads((stopped / "config.json").read_text())["train"]["keep_last"] == 3
    _assert_same_end(straight, stopped)
    (stopped / "config.json").unlink()
    with pytest.raises(UserError, match="results of another config"):
        run.run(other, stopped)
    assert run.run(config, stopped)["seed"] == 0


def test_a_run_out_of_patience_ends_and_does_not_begin_again(tmp_path, capsys):
    """Nothing is learnt, so the first score is the best: two evaluations later it ends, at step 6 of 60."""
    settings = {"optimizer.learning_rate": 1e-30, "train.total_steps": 60, "train.eval_every_steps": 2}
    settings |= {"train.patience": 2, "data.class_weights": "balanced"}
    config = config_lib.load(TEACHER, [*SMALL, *((key, str(value)) for key, value in settings.items())])
    results = run.run(config, tmp_path)
    assert (results["num_steps"], results["best_step"]) == (6, 2) and _final_state(tmp_path)[0] == 6
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "task_loss" in line] == [4, 6]
    assert (
        "ended at step 6 of 60: 2 evaluations without a better dev score than that of step 2" in capsys.readouterr().out
    )
    (tmp_path / "results.json").unlink()  # it was killed before it could write them
    again = run.run(config, tmp_path)
    assert (again["num_steps"], again["best_fingerprint"]) == (6, results["best_fingerprint"])


def test_a_resumed_run_reads_its_state_without_filling_one_first(tmp_path, monkeypatch):
    """Where one state fits, two may not. The run has no teacher, so that all it holds is its state."""
    config = config_lib.load(TEACHER, SMALL)
    with monkeypatch.context() as patch:
        _stop_after(patch, 3)
        with pytest.raises(loop.Interrupted):
            run.run(config, tmp_path)
    gc.collect()
    # Kept, not counted by address: the address of an array that is gone may be another one's.
    before = jax.live_arrays()
    held, restore = [], checkpoint.Checkpointer.restore

    def restore_and_look(self, like):
        held.append(sum(x.nbytes for x in jax.live_arrays() if not any(x is old for old in before)))
        return restore(self, like)

    monkeypatch.setattr(checkpoint.Checkpointer, "restore", restore_and_look)
    results = run.run(config, tmp_path)
    (num_bytes,) = held
    assert num_bytes < results["parameters"]  # a state of Adam takes 12 bytes a parameter


@pytest.mark.slow
def test_negatives_from_the_teacher_cache_train_and_resume_bit_equal(teacher, tmp_path, monkeypatch):
    changes = {"source": "in_batch+teacher_cache", "shared": "True", "num_negatives": "24", "num_hard": "2"}
    config = _config(
        teacher,
        ("teacher.cache_dir", str(tmp_path / "cache")),
        *((f"objective.negatives.{key}", value) for key, value in changes.items()),
    )
    run.run(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        _stop_after(patch, 3)
        with pytest.raises(loop.Interrupted, match="SIGINT after step"):
            run.run(config, tmp_path / "stopped")
    run.run(config, tmp_path / "stopped")
    _assert_same_end(tmp_path / "straight", tmp_path / "stopped")
    first = json.loads((tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()[0])
    # About half of 31 rows of the batch, 24 random ones and 2 neighbours of each of 32 are of the other class.
    assert 40 < first["num_negatives"] < 80


def test_negatives_from_the_teacher_cache_are_refused_without_one(teacher, tmp_path):
    source = ("objective.negatives.source", "in_batch+teacher_cache")
    with pytest.raises(ValueError, match=r"teacher\.cache='off'"):
        run.run(_config(teacher, source, ("teacher.cache", "off")), tmp_path)


@pytest.mark.slow
def test_a_saved_config_repeats_the_run_bit_for_bit(teacher, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    run.run(_config(teacher), first)
    run.run(config_lib.load(str(first / "config.json")), again)
    _assert_same_end(first, again)


def test_results_tell_what_was_run_and_with_what(teacher, tmp_path):
    results = run.run(_config(teacher, ("seed", "3")), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["seed"] == 3
    assert set(results["dev"]) == {"matthews_correlation", "accuracy", "teacher_kl", "teacher_agreement"}
    assert results["versions"]["jax"] == jax.__version__
    assert 0 <= results["input_wait_share"] <= 1
    assert results["length_buckets"] == [18] and 0.3 < results["real_token_share"] < 1
    source = pretrained.load_pretrained(teacher / "best")
    assert results["teacher_fingerprint"] == source.fingerprint
    student = pretrained.load_pretrained(tmp_path / "best")
    assert results["best_fingerprint"] == student.fingerprint
    assert results["parameters"] == sum(x.size for x in jax.tree.leaves(student.params))
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_finished_run_is_not_run_again(teacher, tmp_path, monkeypatch):
    config = _config(teacher)
    results = run.run(config, tmp_path)
    monkeypatch.setattr(run, "Stage", None)
    assert run.run(config, tmp_path) == results


def test_the_workdir_of_another_config_is_refused_with_the_differing_keys(teacher, tmp_path):
    workdir.claim(_config(teacher), tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=r"objective\.soft_target_weight: 0\.9 here, 0\.5 there"):
        run.run(_config(teacher, ("objective.soft_target_weight", "0.9")), tmp_path)


def test_a_run_that_was_refused_before_training_binds_nobody_to_its_config(teacher, tmp_path):
    with pytest.raises(ValueError, match="not divisible"):
        run.run(_config(teacher, ("data.batch_size", "30")), tmp_path)
    corrected = _config(teacher)
    assert workdir.claim(corrected, tmp_path) is None
    assert config_lib.differences(config_lib.load(str(tmp_path / "config.json")), corrected) == []


def test_a_workdir_that_cannot_be_written_is_refused(teacher, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="it, or what it lies in, is a file"):
        run.run(_config(teacher), tmp_path / "file" / "workdir")


def test_a_teacher_no_better_than_the_majority_class_is_refused(teacher, tmp_path):
    untrained = [*SMALL, ("optimizer.learning_rate", "1e-9"), ("train.total_steps", "1")]
    run.run(config_lib.load(TEACHER, untrained), tmp_path / "weak")
    with pytest.raises(ValueError, match="majority class"):
        run.run(_config(tmp_path / "weak", ("teacher.allow_weak", "false")), tmp_path / "student")
    assert not (tmp_path / "student" / "results.json").exists()


def test_weakness_of_a_teacher():
    config = config_lib.load("configs/codir/finetune_teacher.py:tiny")
    data = synthetic.dataset(8, 6, 50, 0)  # labels 0, 1: half of them is the majority
    task = classification.Classification(config, data)
    assert task.weakness({"accuracy": 0.51}, None) == ""
    assert "50.0%" in task.weakness({"accuracy": 0.5}, None)
    info = dataclasses.replace(data.info, is_regression=True, num_classes=1, metrics=("pearson",))
    task = classification.Classification(config, dataclasses.replace(data, info=info))
    assert task.weakness({"r2": 0.1, "pearson": 0.4}, None) == ""
    assert "always answering the mean" in task.weakness({"r2": 0.0, "pearson": 0.1}, None)


@pytest.mark.slow
def test_the_teacher_cache_gives_the_same_training_as_the_live_teacher(teacher, tmp_path, capsys):
    """Two epochs of six steps; on by itself, and the second arm finds the outputs there."""
    changes = [("train.total_epochs", "2"), ("teacher.cache_dir", str(tmp_path / "cache"))]
    run.run(_config(teacher, *changes, ("teacher.cache", "off")), tmp_path / "live")
    assert not (tmp_path / "cache").exists()
    run.run(_config(teacher, *changes), tmp_path / "cached")
    assert "one pass over 192 of 192" in capsys.readouterr().out
    for a, b in zip(_final_state(tmp_path / "live")[1], _final_state(tmp_path / "cached")[1], strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-5)
    run.run(_config(teacher, *changes, method="distill"), tmp_path / "arm")
    assert "one pass over" not in capsys.readouterr().out
    (folder,) = (tmp_path / "cache").iterdir()
    assert {p.name for p in folder.iterdir()} == {"lock", "meta.json", "shard-00000.bin"}


def test_the_teacher_pass_is_cut_into_shards_and_equals_the_live_teacher(teacher, tmp_path, monkeypatch):
    """Shards of 40 rows, of which batches of 32 leave uneven rests."""
    monkeypatch.setattr(teacher_cache, "Layout", functools.partial(teacher_cache.Layout, shard_rows=40))
    config = _config(teacher, ("teacher.cache", "on"), ("teacher.cache_dir", str(tmp_path / "cache")))
    stage = Stage.of(config)
    frozen_teacher = teacher_outputs.Teacher(stage)
    params = frozen_teacher.params
    rows = frozen_teacher.train_rows()
    frozen_teacher.let_go()
    assert frozen_teacher.params is None
    (folder,) = (tmp_path / "cache").iterdir()
    assert len(list(folder.glob("shard-*.bin"))) == 5
    for batch in stage.feed.evaluation("train"):
        real, ids = batch["example_mask"] == 1, batch["example_ids"]
        live = stage.objective.teacher_view.rows(params, batch)
        for name in ("teacher_logits", "teacher_pooled"):
            np.testing.assert_allclose(rows[name][ids[real]], np.asarray(live[name])[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "epochs", "missing", "is_kept", "reason"),
    [
        ({}, 2, 1000, True, "2 epochs share one pass"),
        ({}, 1, 1000, False, "no example comes twice"),
        ({"cache": "on"}, 1, 2000, True, "teacher cache: on"),
        ({"cache": "off"}, 2, 0, False, "teacher.cache=off"),
        ({}, 2, 1001, False, "three times as much"),
        ({}, 2, 0, True, "2 epochs"),
        ({"cache_limit_gib": 1e-9}, 2, 0, False, "cache_limit_gib"),
    ],
)
def test_when_the_teacher_is_cached(tmp_path, monkeypatch, options, epochs, missing, is_kept, reason):
    layout = teacher_cache.Layout(100, {"teacher_logits": (2,)}, "float32")
    cache = teacher_cache.TeacherCache(tmp_path, layout)
    monkeypatch.setattr(cache, "missing_bytes", lambda: missing)
    monkeypatch.setattr(cache, "free_bytes", lambda: 3000)
    config = config_lib.load(DISTILL).teacher
    config.update(options)
    decided, told = teacher_outputs.decide(config, cache, 7 * epochs, 7)
    assert decided is is_kept and reason in told


def test_nothing_is_compiled_after_the_first_epoch(teacher, tmp_path, monkeypatch):
    """Three epochs with two padded lengths, an evaluation and a checkpoint after each."""
    compiled, after_epoch = [], []

    def listen(event, _seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    save = checkpoint.Checkpointer.save

    def save_and_count(*args, **options):
        save(*args, **options)
        after_epoch.append(len(compiled))

    monkeypatch.setattr(checkpoint.Checkpointer, "save", save_and_count)
    monkeypatch.setattr(length_buckets, "ON_CPU", 0)  # the texts are few
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        changes = [("train.total_epochs", "3"), ("data.num_length_buckets", "2"), ("data.bucket_window", "6")]
        results = run.run(_config(teacher, *changes, ("teacher.cache_dir", str(tmp_path / "cache"))), tmp_path / "run")
    finally:
        jax.monitoring.clear_event_listeners()
    assert len(results["length_buckets"]) == 2
    assert after_epoch[0] > 0 and len(after_epoch) == 3
    assert after_epoch[0] == after_epoch[1] == after_epoch[2] == len(compiled)


def test_a_changed_teacher_is_noticed_on_resume(teacher, tmp_path, monkeypatch):
    config = _config(teacher, method="distill")
    _stop_after(monkeypatch, 3)
    with pytest.raises(loop.Interrupted):
        run.run(config, tmp_path / "student")
    monkeypatch.undo()
    monkeypatch.setattr(fingerprint, "of_weights", lambda params: "0" * 64)
    with pytest.raises(ValueError, match="the teacher changed"):
        run.run(config, tmp_path / "student")


def _rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_changes_no_weight_and_no_text_is_noticed_on_resume(teacher, tmp_path, monkeypatch, capsys):
    folder, student = tmp_path / "teacher", tmp_path / "student"
    shutil.copytree(teacher / "best", folder)
    config = _config(folder, ("data.max_length", "9"), ("teacher.cache_dir", str(tmp_path / "cache")), method="distill")
    with monkeypatch.context() as patch:
        _stop_after(patch, 3)
        with pytest.raises(loop.Interrupted):
            run.run(config, student)
    for file, change, noticed in (
        ("config.json", {"layer_norm_eps": 1e-3}, "the teacher changed"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "the data changed"),
    ):
        before = (folder / file).read_text()
        _rewrite(folder / file, **change)
        with pytest.raises(UserError, match=noticed):
            run.run(config, student)
        (folder / file).write_text(before)
    with (
        jax.default_matmul_precision("bfloat16"),
        pytest.raises(UserError, match=r"matmul precision changed since .*default then, bfloat16 now"),
    ):
        run.run(config, student)
    moved = {**environment.arithmetic(), "device_kind": "another"}
    monkeypatch.setattr(environment, "arithmetic", lambda: moved)
    assert run.run(config, student)["arithmetic"] == moved
    assert "began on cpu devices and goes on with another" in capsys.readouterr().out


def test_the_teacher_cache_follows_all_that_its_outputs_depend_on(teacher, tmp_path, monkeypatch):
    config = _config(teacher, ("teacher.cache_dir", str(tmp_path)))
    stage = Stage.of(config)
    model = stage.teacher

    def folder(**changes):
        changed = dataclasses.replace(model, config=dataclasses.replace(model.config, **changes))
        return teacher_outputs.Teacher(dataclasses.replace(stage, teacher=changed))._cache().folder

    found = [folder(), folder(layer_norm_eps=1e-3), folder(num_heads=1), folder(hidden_act="relu")]
    with jax.default_matmul_precision("bfloat16"):
        found.append(folder())
    for name in ("backend", "device_kind"):
        with monkeypatch.context() as patch:
            patch.setattr(environment, "arithmetic", lambda changed={name: "another"}: changed)
            found.append(folder())
    assert folder() == found[0] and len(set(found)) == len(found)


def test_a_checkpoint_of_another_structure_is_refused(tmp_path):
    from codir_jax.training.state import TrainState

    def state(size):
        zeros = jax.numpy.zeros((size,))
        return TrainState(jax.numpy.int32(3), {"w": zeros}, (), {}, jax.numpy.zeros(2, "uint32"))

    writer = checkpoint.Checkpointer(tmp_path, keep_last=1)
    writer.save(state(3), {"a": 1}, wait=True)
    restored, facts = writer.restore(state(3))
    assert facts == {"a": 1}
    assert int(restored.step) == 3
    with pytest.raises(ValueError, match="cannot be read"):
        writer.restore(state(4))
    writer.close()


def test_a_loss_that_becomes_infinite_stops_the_run_and_keeps_the_checkpoint(teacher, tmp_path):
    from codir_jax.training.metrics import NonFiniteError

    growth = [("optimizer.learning_rate", "1000"), ("optimizer.weight_decay", "1000")]  # p <- (1 - 10^6) p
    config = _config(teacher, *growth, ("train.log_every_steps", "1"), method="distill")
    with pytest.raises(NonFiniteError, match="at step"):
        run.run(config, tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_a_batch_that_the_devices_do_not_divide_is_refused_with_sizes_that_do(teacher, tmp_path):
    with pytest.raises(ValueError, match="not divisible by 8 devices; use 24 or 32"):
        run.run(_config(teacher, ("data.batch_size", "30")), tmp_path)


def test_a_deterministic_run_says_so_before_any_device_is_asked(teacher, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(environment, "make_deterministic", lambda: calls.append("flag"))
    monkeypatch.setattr(Stage, "of", lambda _: calls.append("stage") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.run(_config(teacher), tmp_path)
    with pytest.raises(ZeroDivisionError):
        run.run(_config(teacher, ("train.deterministic", "true")), tmp_path)
    assert calls == ["stage", "flag", "stage"]


def test_a_run_saved_on_one_mesh_resumes_on_another(teacher, tmp_path, monkeypatch):
    """The layout of a run may change, its science not."""
    run.run(_config(teacher), tmp_path / "straight")
    with monkeypatch.context() as context:
        _stop_after(context, 3)
        with pytest.raises(loop.Interrupted):
            run.run(_config(teacher), tmp_path / "moved")
    run.run(_config(teacher, ("mesh.fsdp", "2"), ("mesh.model", "2")), tmp_path / "moved")
    straight, moved = (_final_state(tmp_path / name) for name in ("straight", "moved"))
    assert straight[0] == moved[0]
    for a, b in zip(straight[1], moved[1], strict=True):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5 + 1e-4 * np.abs(a).max(initial=0))
