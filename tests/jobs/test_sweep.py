"""The sweep: arms, equal search budgets, resumption, and the table from finished runs."""

import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.jobs import sweep, sweep_table, workers
from codir_jax.jobs.workers import Run
from codir_jax.main import main
from codir_jax.processes import claims
from codir_jax.processes.user_error import UserError
from codir_jax.stage.workdir import read_results
from codir_jax.verbs.sweep import EXAMPLES
from tests.test_readme import CODIR

DISTILL = "configs/codir/finetune_distill.py:{task}"


ACCURACY = {"name": "accuracy", "higher_is_better": True, "unit": "share"}


def _finish(run, score, teacher_kl=0.1, metric=ACCURACY):
    """Writes the results of a run that gave `score`."""
    seed = int(dict(run.overrides)["seed"])
    dev = {metric["name"]: score, "teacher_kl": teacher_kl}
    results = {"primary_metric": metric["name"], "metrics": [metric], "dev": dev, "dev_last": dev, "seed": seed}
    results |= {"best_step": 1, "seconds": 1.0, "teacher_dev": {metric["name"]: 0.9}}
    with contextlib.suppress(UserError):  # of a test that looks at the runs alone
        claims.claim(Path(run.workdir).parents[2], claims.SWEEP, "--output")
    claims.claim(run.workdir, claims.RUN, "--workdir")
    (Path(run.workdir) / "results.json").write_text(json.dumps(results))


def _arguments(tmp_path, *more):
    return [
        "sweep",
        f"--output={tmp_path}",
        "--tasks=rte",
        "--seeds=0,1,2",
        "--baseline=distill",
        "--config.teacher.path=runs/teacher_{task}",
        f"--arm=distill {DISTILL},distill --search optimizer.learning_rate=1e-4,3e-4",
        f"--arm=codir {DISTILL},paper data.batch_size=16 --search objective.contrastive_weight=0.02,0.1",
        *more,
    ]


def test_an_arm_is_a_config_with_fixed_overrides_and_a_product_of_trials():
    arm = sweep.parse_arm(f"a {DISTILL} data.batch_size=8 --search x.y=1,2 --search z=3,4")
    assert arm.fixed == (("data.batch_size", "8"),)
    assert [dict(trial) for trial in arm.trials] == [{"x.y": y, "z": z} for y in "12" for z in "34"]


@pytest.mark.parametrize("text", ["a", f"a {DISTILL} batch", f"a {DISTILL} --search lr"])
def test_an_arm_that_cannot_be_read_is_refused(text):
    with pytest.raises(UserError, match="--arm"):
        sweep.parse_arm(text)


def test_task_and_seed_are_filled_in(tmp_path):
    arm = sweep.parse_arm(f"a {DISTILL},paper student.path=runs/student_{{seed}}")
    job = sweep.make_run(arm, "rte", (), 4, [("teacher.path", "runs/teacher_{task}")], tmp_path)
    assert job.config == "configs/codir/finetune_distill.py:rte,paper"
    assert dict(job.overrides) == {"teacher.path": "runs/teacher_rte", "student.path": "runs/student_4", "seed": "4"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([f"--arm=best {DISTILL},best"], "same number of trials"),
        (["--search_seeds=0"], "must not be among"),
        (["--baseline=best"], "must be one of the arms"),
        (["--tasks=rte,.."], "'..' becomes a folder"),
        (["--tasks=../rte"], "'../rte' becomes a folder"),
        ([f"--arm=a/b {DISTILL} --search train.log_every_steps=1,2"], "'a/b' becomes a folder"),
        (["--config.optimiser.name=sgd"], "Did you mean"),
        ([f"--arm=odd {DISTILL} optimizer.name=lamb --search train.log_every_steps=1,2"], "expected one of adamw"),
        ([f"--arm=odd {DISTILL} --search seed=1,2"], "seed is set by --seeds"),
        (["--config.seed=3"], "seed is set by --seeds"),
        (["--tasks=rte,rte"], "--tasks has one twice"),
        (["--seeds=0,1,0"], "--seeds has one twice"),
        (["--tasks="], "--tasks is empty"),
        ([f"--arm=a '{DISTILL}"], "No closing quotation"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(more, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workers, "run_all", lambda *_: pytest.fail("something was run"))
    assert main([*_arguments(tmp_path), *more]) == 2
    assert message in capsys.readouterr().err


def test_a_workdir_of_another_config_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run_all", lambda *_: pytest.fail("something was run"))
    arm = f"plain {DISTILL},finetune"
    run = sweep.make_run(sweep.parse_arm(arm), "rte", (), 0, [("teacher.path", "t")], tmp_path / "rte/plain/seed_0")
    _finish(run, 0.5)
    (Path(run.workdir) / "config.json").write_text(json.dumps({"seed": 7}))
    with pytest.raises(UserError, match="run of another config"):
        sweep.sweep(str(tmp_path), ["rte"], [arm], seeds=[0, 1], overrides=[("teacher.path", "t")])


def test_a_workdir_of_no_trial_is_refused_before_the_search_runs(tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "rte" / "codir" / "seed_1"
    arm = sweep.parse_arm(f"codir {DISTILL},paper data.batch_size=16 objective.contrastive_weight=0.02")

    def hold(**change):
        run = sweep.make_run(arm, "rte", (), 1, [("teacher.path", "runs/teacher_{task}"), *change.items()], workdir)
        _finish(run, 0.5)
        (workdir / "config.json").write_text(config_lib.to_json(config_lib.load(run.config, run.overrides)))

    started = []
    monkeypatch.setattr(workers, "run_all", lambda runs, _: started.extend(runs) or [])
    hold(**{"data.max_length": "17"})
    assert main(_arguments(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "choose another --output" in told and "data.max_length: 128 here, 17 there" in told
    assert not started
    hold()
    assert main(_arguments(tmp_path)) == 0  # of the first trial, and the search has not decided yet
    assert started


def test_of_a_metric_of_which_less_is_better_the_lowest_trial_is_chosen(tmp_path):
    """Its name says nothing about it: results.json does."""
    arm = sweep.parse_arm(f"lstm {DISTILL} --search optimizer.learning_rate=1,2,3")
    perplexity = {"name": "perplexity", "higher_is_better": False, "unit": "per word"}
    runs = [[sweep.make_run(arm, "ptb", trial, 100, [], tmp_path / str(i))] for i, trial in enumerate(arm.trials)]
    for (run,), score in zip(runs, (120.0, 80.0, 95.0), strict=True):
        _finish(run, score, metric=perplexity)
    best, told = sweep.choose(arm, runs)
    assert best == (("optimizer.learning_rate", "2"),)
    assert told["optimizer.learning_rate=3"] == 95.0
    plain = sweep.parse_arm(f"plain {DISTILL}")
    final = {("ptb", "plain"): runs[0] + runs[1]}
    cell = {("ptb", "plain"): ()}
    table = sweep_table.make([plain], ["ptb"], final, cell, {("ptb", "plain"): {}}, "plain")
    text = sweep_table.markdown(table, "plain")
    assert "perplexity, per word (less is better) on dev" in text and "| plain | 100.000 | 28.284 | 2 |" in text


def test_there_is_no_best_trial_until_each_is_finished_or_lost(tmp_path):
    arm = sweep.parse_arm(f"a {DISTILL} --search optimizer.learning_rate=1,2,3")
    runs = [[sweep.make_run(arm, "rte", trial, 100, [], tmp_path / str(i))] for i, trial in enumerate(arm.trials)]
    assert sweep.choose(arm, runs) == (None, {})
    _finish(runs[0][0], math.nan)
    _finish(runs[1][0], 0.5)
    best, told = sweep.choose(arm, runs)
    assert best is None and told["optimizer.learning_rate=2"] == 0.5
    best, _ = sweep.choose(arm, runs, lost=[runs[2][0].workdir])
    assert best == (("optimizer.learning_rate", "2"),)


@pytest.mark.parametrize(("status", "waits"), [(2, True), (3, False)])
def test_a_cell_waits_for_a_search_run_that_failed_and_not_for_one_that_diverged(
    status, waits, tmp_path, monkeypatch, capsys
):
    failing = str(tmp_path / "rte" / "codir" / "search_1_seed_100")

    def play(runs, num_workers):
        for run in runs:
            if run.workdir != failing:
                _finish(run, 0.5)
        return [workers.Failure(failing, status, "why")] if failing in [run.workdir for run in runs] else []

    monkeypatch.setattr(workers, "run_all", play)
    assert main(_arguments(tmp_path)) == 1
    told = capsys.readouterr()
    assert f"failed: {failing}: why" in told.err
    assert (tmp_path / "rte" / "codir" / "seed_0").exists() != waits
    assert ("its search is not finished" in told.out) == waits
    rows = json.loads((tmp_path / "table.json").read_text())["rte"]
    assert rows["codir"]["seeds"] == ([] if waits else [0, 1, 2])
    assert rows["distill"]["seeds"] == [0, 1, 2]


def test_a_table_of_nothing_is_refused_and_leaves_no_folder(tmp_path, capsys):
    arguments = [f"--output={tmp_path / 'nothere'}", "--tasks=rte", f"--arm=a {DISTILL}", "--seeds=0", "--table_only"]
    assert main(["sweep", *arguments]) == 2
    assert "nothing is finished in" in capsys.readouterr().err
    assert not (tmp_path / "nothere").exists()


def test_another_number_of_dev_is_told_as_it_is(tmp_path, capsys):
    run = sweep.make_run(sweep.parse_arm(f"a {DISTILL}"), "rte", (), 0, [], tmp_path / "rte" / "a" / "seed_0")
    _finish(run, 0.6, teacher_kl=0.1234)
    arguments = ["sweep", f"--output={tmp_path}", "--tasks=rte", f"--arm=a {DISTILL}", "--seeds=0", "--table_only"]
    assert main([*arguments, "--metric=teacher_kl"]) == 0
    assert "### rte: teacher_kl on dev" in (table := capsys.readouterr().out) and "| a | 0.123 |" in table
    assert main([*arguments, "--metric=f1"]) == 2
    assert "has no f1 on dev; known: accuracy, teacher_kl" in capsys.readouterr().err


def test_arms_that_are_judged_by_different_metrics_are_not_compared(tmp_path, capsys):
    for name, metric in (("a", ACCURACY), ("b", {**ACCURACY, "name": "f1"})):
        run = sweep.make_run(sweep.parse_arm(f"{name} {DISTILL}"), "rte", (), 0, [], tmp_path / "rte" / name / "seed_0")
        _finish(run, 0.6, metric=metric)
    arms = [f"--arm={name} {DISTILL}" for name in "ab"]
    assert main(["sweep", f"--output={tmp_path}", "--tasks=rte", *arms, "--seeds=0", "--table_only"]) == 2
    assert "the arms of rte are judged by accuracy and f1" in capsys.readouterr().err


SHOWN = [
    shlex.split(line.strip())[1:] for line in EXAMPLES.replace("\\\n", " ").splitlines() if " codir sweep -" in line
]
SHOWN += [words[1:] for _, command in CODIR if (words := shlex.split(command))[1] == "sweep"]


@pytest.mark.parametrize("words", SHOWN, ids=lambda words: words[1])
def test_a_sweep_that_is_shown_can_be_run(words, tmp_path, monkeypatch):
    """Its arms are read, every config loads with its overrides, the budgets are equal."""
    planned = []
    monkeypatch.setattr(workers, "run_all", lambda runs, _: planned.extend(runs) or [])
    nothing_is_finished = 2 if "--table_only" in words else 0
    assert main([*words, f"--output={tmp_path}"]) == nothing_is_finished
    assert planned or "--table_only" in words


def test_results_that_do_not_say_what_is_better_are_refused(tmp_path):
    arm = sweep.parse_arm(f"a {DISTILL} --search optimizer.learning_rate=1,2")
    runs = [[sweep.make_run(arm, "rte", trial, 100, [], tmp_path / str(i))] for i, trial in enumerate(arm.trials)]
    for (run,) in runs:
        _finish(run, 0.5)
        path = Path(run.workdir) / "results.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "metrics"}))
    with pytest.raises(UserError, match="does not hold the results of a run"):
        sweep.choose(arm, runs)


def test_the_search_chooses_by_its_own_seed_and_the_table_pairs_by_seed(tmp_path, monkeypatch, capsys):
    """Two arms, two trials, three seeds; the runs are played, everything else is real."""
    played = {"distill": [0.70, 0.72, 0.74], "codir": [0.71, 0.74, 0.77]}

    def play(runs, num_workers):
        for run in runs:
            arm, name = Path(run.workdir).parts[-2:]
            if name.startswith("search_1"):
                _finish(run, 0.9)  # the second trial is the better one
            elif name.startswith("search_0"):
                _finish(run, 0.5)
            else:
                _finish(run, played[arm][int(name.removeprefix("seed_"))])
        return []

    monkeypatch.setattr(workers, "run_all", play)
    assert main(_arguments(tmp_path)) == 0
    table = json.loads((tmp_path / "table.json").read_text())["rte"]
    assert table["distill"]["overrides"] == ["optimizer.learning_rate=3e-4"]
    assert table["codir"]["overrides"] == ["data.batch_size=16", "objective.contrastive_weight=0.1"]
    assert table["codir"]["summary"]["mean"] == pytest.approx(0.74)
    difference = table["codir"]["difference"]
    # Differences 0.01, 0.02, 0.03: mean 0.02, sd 0.01, t(0.975, 2) = 4.303, half width 4.303 * 0.01 / sqrt(3).
    assert difference["mean"] == pytest.approx(0.02)
    assert difference["high"] - difference["mean"] == pytest.approx(0.02484, abs=1e-4)
    text = capsys.readouterr().out
    assert "teacher 90.0" in text
    assert "| codir | 74.0 | 3.0 | 3 | +2.0 (-0.5 to +4.5) | 0.100 |" in text


def test_finished_runs_are_not_run_again_and_open_cells_stay_open(tmp_path, capsys):
    arm = sweep.parse_arm(f"a {DISTILL}")
    run = sweep.make_run(arm, "rte", (), 0, [], tmp_path / "rte" / "a" / "seed_0")
    _finish(run, 0.6)
    assert workers.run_all([run], 1) == []
    assert "1 runs, 1 finished before" in capsys.readouterr().out
    arguments = [f"--output={tmp_path}", "--tasks=rte,cola", f"--arm=a {DISTILL}", "--seeds=0", "--table_only"]
    assert main(["sweep", *arguments]) == 0
    text = (tmp_path / "table.md").read_text()
    assert "| a | 60.0 |  | 1 |" in text
    assert "| a | | | 0 |" in text


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else it asks the hub for a model of that name, again and again
    arguments = [f"--output={tmp_path}", "--tasks=demo", "--seeds=0,1", "--config.teacher.path=nowhere"]
    assert main(["sweep", *arguments, "--arm=a configs/codir/finetune_distill.py:{task}", "--workers=1"]) == 1
    told = capfd.readouterr()
    assert told.err.count("nowhere") >= 2 and "| a | | | 0 |" in told.out
    assert "nowhere" not in (tmp_path / "demo" / "a" / "seed_0" / "log.txt").read_text().partition("Traceback")[2]


def end_at_once(run):
    """What a worker does in the test below: it is killed, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_is_named_and_the_others_go_on(tmp_path, capsys):
    runs = [Run("c", (), str(tmp_path / name)) for name in ("one", "two")]
    failures = workers.run_all(runs, 1, end_at_once)
    assert [(failure.workdir, failure.status) for failure in failures] == [(run.workdir, -9) for run in runs]
    assert f"[2/2] {runs[1].workdir}: killed by signal 9" in capsys.readouterr().out
    with pytest.raises(UserError, match="--workers=-1"):
        workers.run_all(runs, -1, end_at_once)


def announce_and_sleep(run):
    """What a worker does in the test below: says who it is, and is busy."""
    open(f"{os.environ['PLACES']}/{os.getpid()}", "w").close()
    time.sleep(600)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux tells of its processes in /proc")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow)]
)
def test_workers_end_with_the_process_that_started_them(number, status, tmp_path):
    """One that is killed, or asked to stop, while its workers are at work."""
    code = (
        "import sys\n"
        "from codir_jax.jobs import workers\n"
        "from tests.jobs.test_sweep import announce_and_sleep\n"
        "if __name__ == '__main__':\n"
        "    workers.run_all([workers.Run('c', (), sys.argv[1] + '/run')], 1, announce_and_sleep)\n"
    )
    script, places = tmp_path / "killed.py", tmp_path / "places"
    script.write_text(code)
    places.mkdir()
    env = {**os.environ, "PLACES": str(places), "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=env)
    deadline = time.monotonic() + 60
    while not list(places.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    (worker,) = (int(path.name) for path in places.iterdir())
    parent.send_signal(number)
    assert parent.wait(60) == status
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are given on Linux")
def test_workers_share_the_cores_or_the_cards_and_their_memory(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = workers.places(2)
    assert len(found) == 2 and all(place.cores for place in found)
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in workers.places()] == ["3", "5"]
    assert [place.variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] for place in workers.places(4)] == ["0.450"] * 4
    assert workers.places(1) == [workers.Place({"CUDA_VISIBLE_DEVICES": "3,5"})]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in workers.places(2)] == ["0,2,4", "1,3"]


def test_a_run_is_what_the_train_command_does(tmp_path):
    quick = (("train.total_steps", "1"), ("data.demo_num_train", "64"), ("data.demo_num_dev", "16"), ("seed", "0"))
    run = Run("configs/codir/finetune_teacher.py:tiny", quick, str(tmp_path / "run"))
    assert workers.run_all([run], 1) == []
    assert read_results(Path(run.workdir))["num_steps"] == 1
    assert "step 1/1" in (tmp_path / "run" / "log.txt").read_text()
