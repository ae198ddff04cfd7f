"""The sweep: arms, equal search budgets, resumption, and the table from finished runs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "launch")
)  # a script, not a package; workers import it too

import sweep

DISTILL = "configs/codir/finetune_distill.py:{task}"


def _finish(job, score, teacher_kl=0.1):
    """Writes the results of a run that gave `score`."""
    seed = int(dict(job.overrides)["seed"])
    dev = {"accuracy": score, "teacher_kl": teacher_kl}
    results = {"primary_metric": "accuracy", "dev": dev, "dev_last": dev, "seed": seed, "seconds": 1.0}
    Path(job.workdir).mkdir(parents=True, exist_ok=True)
    (Path(job.workdir) / "results.json").write_text(json.dumps({**results, "teacher_dev": {"accuracy": 0.9}}))


def _arguments(tmp_path, *more):
    return [
        f"--output={tmp_path}",
        "--tasks=rte",
        "--seeds=0,1,2",
        "--baseline=distill",
        "--config.teacher.path=runs/teacher_{task}",
        f"--arm=distill {DISTILL},distill --search optimizer.learning_rate=1e-4,3e-4",
        f"--arm=codir {DISTILL},paper seed=9 --search objective.contrastive_weight=0.02,0.1",
        *more,
    ]


def test_an_arm_is_a_config_with_fixed_overrides_and_a_product_of_trials():
    arm = sweep.parse_arm(f"a {DISTILL} data.batch_size=8 --search x.y=1,2 --search z=3,4")
    assert arm.fixed == (("data.batch_size", "8"),)
    assert [dict(trial) for trial in arm.trials] == [{"x.y": y, "z": z} for y in "12" for z in "34"]


@pytest.mark.parametrize("text", ["a", f"a {DISTILL} batch", f"a {DISTILL} --search lr"])
def test_an_arm_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="--arm"):
        sweep.parse_arm(text)


def test_task_and_seed_are_filled_in(tmp_path):
    arm = sweep.parse_arm(f"a {DISTILL},paper student.path=runs/student_{{seed}}")
    job = sweep.make_job(arm, "rte", (), 4, [("teacher.path", "runs/teacher_{task}")], tmp_path)
    assert job.config == "configs/codir/finetune_distill.py:rte,paper"
    assert dict(job.overrides) == {"teacher.path": "runs/teacher_rte", "student.path": "runs/student_4", "seed": "4"}


def test_unequal_budgets_and_shared_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same number of trials"):
        sweep.main(_arguments(tmp_path, f"--arm=l2 {DISTILL},l2"))
    with pytest.raises(ValueError, match="must not be among"):
        sweep.main(_arguments(tmp_path, "--search_seeds=0"))
    with pytest.raises(ValueError, match="baseline"):
        sweep.main([*_arguments(tmp_path), "--baseline=best"])


def test_the_search_chooses_by_its_own_seed_and_the_table_pairs_by_seed(tmp_path, monkeypatch, capsys):
    """Two arms, two trials, three seeds; the runs are played, everything else is real."""
    played = {"distill": [0.70, 0.72, 0.74], "codir": [0.71, 0.74, 0.77]}

    def play(jobs, workers):
        for job in jobs:
            arm, run = Path(job.workdir).parts[-2:]
            if run.startswith("search_1"):
                _finish(job, 0.9)  # the second trial is the better one
            elif run.startswith("search_0"):
                _finish(job, 0.5)
            else:
                _finish(job, played[arm][int(run.removeprefix("seed_"))])
        return []

    monkeypatch.setattr(sweep, "execute", play)
    assert sweep.main(_arguments(tmp_path)) == 0
    table = json.loads((tmp_path / "table.json").read_text())["rte"]
    assert table["distill"]["overrides"] == ["optimizer.learning_rate=3e-4"]
    assert table["codir"]["overrides"] == ["seed=9", "objective.contrastive_weight=0.1"]
    assert table["codir"]["summary"]["mean"] == pytest.approx(0.74)
    difference = table["codir"]["difference"]
    # Differences 0.01, 0.02, 0.03: mean 0.02, sd 0.01, t(0.975, 2) = 4.303, half width 4.303 * 0.01 / sqrt(3).
    assert difference["mean"] == pytest.approx(0.02)
    assert difference["high"] - difference["mean"] == pytest.approx(0.02484, abs=1e-4)
    text = capsys.readouterr().out
    assert "teacher 90.0" in text
    assert "| codir | 74.0 | 3.0 | 3 | +2.0 (-0.5 to +4.5) | 0.100 |" in text


def test_finished_runs_are_not_run_again_and_open_cells_stay_open(tmp_path, capsys):
    arms = [sweep.parse_arm(f"a {DISTILL}")]
    job = sweep.make_job(arms[0], "rte", (), 0, [], tmp_path / "rte" / "a" / "seed_0")
    _finish(job, 0.6)
    assert sweep.execute([job], workers=1) == []
    assert "1 runs, 1 finished before" in capsys.readouterr().out
    arguments = [f"--output={tmp_path}", "--tasks=rte,cola", f"--arm=a {DISTILL}", "--seeds=0", "--table_only"]
    assert sweep.main(arguments) == 0
    text = (tmp_path / "table.md").read_text()
    assert "| a | 60.0 |  | 1 |" in text
    assert "| a | | | 0 |" in text


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else it asks the hub for a model of that name, again and again
    good = [("teacher.path", "nowhere")]
    arm = sweep.parse_arm("a configs/codir/finetune_distill.py:demo")
    jobs = [sweep.make_job(arm, "demo", (), seed, good, tmp_path / f"seed_{seed}") for seed in (0, 1)]
    failures = sweep.execute(jobs, workers=1)
    assert len(failures) == 2
    assert all("nowhere" in failure for failure in failures)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux tells of its processes in /proc")
def test_workers_end_with_the_process_that_started_them(tmp_path):
    """One that is killed while its workers are at work."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import sweep\n"
        "def slow(job): open(sys.argv[2] + '/' + str(sweep.os.getpid()), 'w').close(); time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    sweep.run_job = slow\n"
        "    sweep.execute([sweep.Job('c', (), sys.argv[2] + '/run')], 1)\n"
    )
    script = tmp_path / "killed.py"
    script.write_text(code)
    places = tmp_path / "places"
    places.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(Path(sweep.__file__).parent), str(places)])
    deadline = time.monotonic() + 60
    while not list(places.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    (worker,) = (int(path.name) for path in places.iterdir())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def test_workers_share_the_cores():
    places = sweep.worker_places(2)
    cores = [cores for name, cores in places if name == "cores"]
    assert len(places) == 2
    assert not cores or all(cores)
