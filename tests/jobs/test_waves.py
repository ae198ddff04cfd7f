"""Which stages of a job are trained at once, and that each has its config; nothing is trained."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from codir_jax.jobs import waves, workers
from codir_jax.jobs.compress import compress
from codir_jax.jobs.recipe import StageSpec
from codir_jax.jobs.workers import Failure
from codir_jax.processes.user_error import UserError


def _stage(name, *needs):
    return StageSpec(name, name, "a.py", tuple((f"key{i}", f"{{{need}}}/best") for i, need in enumerate(needs)))


STAGES = (
    _stage("teacher", "given"),
    _stage("inside_a", "teacher", "job"),
    _stage("a", "teacher", "inside_a"),
    _stage("inside_b", "teacher"),
    _stage("b", "inside_b"),
    _stage("alone"),
)


def test_a_stage_waits_for_what_it_names():
    assert waves.of_stages(STAGES) == [["teacher", "alone"], ["inside_a", "inside_b"], ["a", "b"]]
    assert waves.of_stages(STAGES[2:3]) == [["a"]]  # what it names is no stage of this job
    assert waves.of_stages(()) == []


def test_all_seeds_are_of_the_same_waves_and_what_is_finished_is_not_counted(tmp_path, monkeypatch):
    asked = []

    def run_all(runs, num_workers):
        asked.append(([str(Path(run.workdir).relative_to(tmp_path)) for run in runs], num_workers))
        assert all(isinstance(run.config, ConfigDict) for run in runs)
        return []

    monkeypatch.setattr(workers, "run_all", run_all)
    configs = {3: {stage.name: ConfigDict() for stage in STAGES}}
    configs[4] = {name: config for name, config in configs[3].items() if name != "teacher"}
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "results.json").touch()
    waves.train(STAGES, configs, tmp_path, 3)
    assert asked == [
        (["teacher", "seeds/4/alone"], 2),
        (["inside_a", "inside_b", "seeds/4/inside_a", "seeds/4/inside_b"], 3),
        (["a", "b", "seeds/4/a", "seeds/4/b"], 3),
    ]


def test_a_failed_stage_ends_the_job_after_its_wave(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "run_all", lambda runs, _: [Failure(runs[0].workdir, 1, "no memory")])
    with pytest.raises(UserError, match=r"(?s)the same command goes on:.*teacher: no memory"):
        waves.train(STAGES, {0: {stage.name: ConfigDict() for stage in STAGES}}, tmp_path, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": -1}, "--workers=-1: expected 1 or more, or 0"),
        ({"workers": True}, "--workers=True: expected"),
        ({"workers": 2, "on_step": print}, "leave them or workers out"),
    ],
)
def test_what_workers_cannot_be_is_told_before_anything_is_trained(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        compress(demo=True, output=str(tmp_path / "job"), **arguments)
    assert not (tmp_path / "job").exists()
