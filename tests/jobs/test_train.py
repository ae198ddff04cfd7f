"""A stage as the command runs it: the teacher that a config names is made first, and every `tiny` runs as it stands."""

import json

import pytest

from codir_jax import config as config_lib
from codir_jax.jobs import train as train_lib
from codir_jax.jobs.train import train
from codir_jax.processes.user_error import UserError
from tests.test_config import shipped

QUICK = [("train.total_steps", "2"), ("train.log_every_steps", "1")]
DISTILL = "configs/codir/finetune_distill.py:tiny"


def _quick(spec, folder):
    """The config with two steps, and two of its teacher's."""
    config = config_lib.load(spec, QUICK)
    if config.teacher.config:
        path = folder / "teacher.json"
        path.write_text(config_lib.to_json(config_lib.load(config.teacher.config, QUICK)), encoding="utf-8")
        config.teacher.config = str(path)
    return config


@pytest.mark.slow  # DISTILL below and the tests of pre-training run their parts
@pytest.mark.parametrize("path", [path for path in shipped() if path not in DISTILL])
def test_every_tiny_config_runs_without_anything_given(path, tmp_path):
    results = train(_quick(f"{path}:tiny", tmp_path), tmp_path / "run")
    assert results["num_steps"] == 2 and results["dev"]
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", shipped())
def test_every_tiny_config_runs_whole(path, tmp_path):
    assert train(f"{path}:tiny", tmp_path)["dev"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of DISTILL, whose teacher was made first: the one config that the test above leaves out."""
    folder = tmp_path_factory.mktemp("made")
    config = _quick(DISTILL, folder)
    return config, folder / "run", train(config, folder / "run")


def test_a_teacher_that_was_made_is_not_made_again(made, monkeypatch, capsys):
    config, folder, results = made
    assert results["num_steps"] == 2 and results["dev"] and (folder / "best" / "model.safetensors").exists()
    assert json.loads((folder / "teacher" / "results.json").read_text())["num_steps"] == 2
    assert train(config, folder) == results
    assert capsys.readouterr().out.count("already finished") == 2


def test_the_saved_config_repeats_the_run_with_the_same_teacher(made, tmp_path):
    _, folder, results = made
    again = train(str(folder / "config.json"), tmp_path / "again")
    assert again["best_fingerprint"] == results["best_fingerprint"]
    assert not (tmp_path / "again" / "teacher").exists()


def test_the_workdir_of_another_run_is_refused_before_the_teacher_is_made(made, monkeypatch):
    config, folder, _ = made
    monkeypatch.setattr(train_lib.run_lib, "run", lambda *_, **__: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=r"(?s)holds a run of another config.*seed"):
        train(config, folder, [("seed", "7")])


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("student.dtype", "float16", r"student\.dtype"),
        ("student.num_layers", "9", "a student of 9 layers cannot start from a teacher of 2"),
        ("objective.layer_matches", "1:7", "teacher layer 7 in '1:7' does not exist"),
    ],
)
def test_a_contradiction_of_the_student_is_refused_before_the_teacher_is_made(tmp_path, monkeypatch, key, value, told):
    monkeypatch.setattr(train_lib.run_lib, "run", lambda *_, **__: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=told):
        train(DISTILL, tmp_path, [("data.demo_num_train", "64"), (key, value)])


def test_the_teacher_is_made_on_the_data_of_its_student(monkeypatch, tmp_path):
    """Before, a teacher of the config's own data was trained, and refused by a student of other classes."""
    trained = []
    monkeypatch.setattr(train_lib.run_lib, "run", lambda config, workdir, **_: trained.append(config))
    monkeypatch.setattr(train_lib.refusals, "check", lambda *_: None)  # there is no tokenizer "words"
    changes = {"data.demo_num_train": "64", "data.label_names": "good,bad", "tokenizer_path": "words", "mesh.fsdp": "2"}
    train(DISTILL, tmp_path, [*changes.items(), ("seed", "5"), ("objective.pooling", "first")])
    teacher, student = trained
    assert teacher.data.to_dict() == student.data.to_dict() and teacher.data.label_names == "good,bad"
    assert (teacher.seed, teacher.tokenizer_path, teacher.mesh.fsdp) == (5, "words", 2)
    assert (teacher.objective.name, student.objective.name) == ("finetune", "codir")


def test_a_teacher_that_is_given_or_not_needed_is_not_made(monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr(train_lib.run_lib, "run", lambda config, workdir, **_: trained.append(workdir.name))
    train(DISTILL, tmp_path / "given", [("teacher.path", "runs/teacher")])
    start = [("student.init", "pretrained"), ("student.path", "runs/start")]
    train(f"{DISTILL},finetune", tmp_path / "no_need", start)
    assert trained == ["given", "no_need"]
