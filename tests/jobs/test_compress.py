"""The whole job: what holds for all of its stages, and what is refused before its teacher is trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.jobs import compress as compress_lib
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs.compress import compress
from codir_jax.processes.user_error import UserError
from codir_jax.stage import workdir

TINY = {
    "overrides": [("train.total_steps", "2"), ("data.eval_batch_size", "8"), ("teacher.allow_weak", "true")],
    "teacher_overrides": [("train.total_steps", "2")],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny encoder with a head for other classes than the files'."""
    from codir_jax.jobs.train import train

    folder = tmp_path_factory.mktemp("base")
    small = [("data.demo_num_train", "64"), ("data.demo_num_dev", "16"), ("train.total_steps", "1")]
    train("configs/codir/finetune_teacher.py:tiny", folder, small)
    return str(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Own files of two classes; sorted, their names stand in the other order than the one that is asked for."""
    folder = tmp_path_factory.mktemp("files")
    lines = "".join(f"sentence number {i} is {word}\t{word}\n" for i in range(16) for word in ("good", "bad"))
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text(f"sentence\tlabel\n{lines}", encoding="utf-8")
    return {"train": str(folder / "train.tsv"), "dev": str(folder / "dev.tsv")}


@pytest.fixture(scope="module")
def finished(base, files, tmp_path_factory):
    """(arguments, folder, results) of a job whose data have names in an order of their own."""
    folder = tmp_path_factory.mktemp("finished") / "job"
    own = {**TINY, "overrides": [*TINY["overrides"], ("data.label_names", "good,bad"), ("data.max_length", "16")]}
    arguments = {"teacher": base, **files, "output": str(folder), **own}
    return arguments, folder, compress(**arguments)


def test_what_is_said_of_the_data_holds_for_the_teacher_too(finished):
    """Before, the teacher took its classes in another order and the student was refused when it was trained."""
    _, folder, results = finished
    for stage in ("teacher", "codir"):
        config = json.loads((folder / stage / "config.json").read_text())
        assert (config["data"]["label_names"], config["data"]["max_length"]) == ("good,bad", 16)
        told = json.loads((folder / stage / "best" / "config.json").read_text())
        assert told["id2label"] == {"0": "good", "1": "bad"}
    assert json.loads((folder / "export" / "config.json").read_text())["id2label"] == {"0": "good", "1": "bad"}
    stages = [json.loads((folder / stage / "results.json").read_text()) for stage in ("teacher", "codir")]
    assert results["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))
    assert results["main"] == "codir" and list(results["models"]) == ["teacher", "codir"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([("objective.layer_matches", "1:9")], "layer 9"),
        ([("student.num_layers", "3")], "a student of 3 layers"),
        ([("data.max_length", "1024")], "512 positions"),
        ([("data.label_names", "good,evil")], "unknown label 'bad'"),
        ([("objective.negatives.source", "banc")], "banc"),
        ([("train.num_microbatches", "3")], "not divisible by 3 microbatches"),
    ],
)
def test_what_a_student_cannot_be_is_told_before_the_teacher_is_trained(
    overrides, message, base, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(compress_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=message):
        compress(base, **files, output=str(tmp_path / "job"), overrides=overrides)
    assert not (tmp_path / "job").exists()


def test_a_student_on_text_is_checked_before_a_teacher_of_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(compress_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(UserError, match="layer 9"):
        compress(text="demo:24", output=str(tmp_path / "job"), overrides=[("objective.layer_matches", "1:9")])


def test_who_accepts_a_weak_teacher_later_goes_on_with_the_baselines_that_are_finished(tmp_path):
    """Such a baseline needs no teacher: it was finished before the teacher was refused."""
    config = config_lib.load("configs/codir/finetune_distill.py:tiny,finetune", [("teacher.allow_weak", "false")])
    workdir.claim(config, tmp_path)
    workdir.write_json(tmp_path / "results.json", {"seconds": 1.0})
    config.teacher.allow_weak = True
    assert workdir.claim(config, tmp_path) == {"seconds": 1.0}


def test_a_folder_with_another_job_is_refused_with_the_keys_that_differ(finished):
    arguments, _, _ = finished
    with pytest.raises(UserError, match=r"(?s)other settings.*stages\.codir\.seed: 3 here, 0 there"):
        compress(**arguments, seed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": "a"}, "give one of --train .*got none"),
        ({"dev": "a.tsv"}, "give one of --train .*got none"),
        ({"text": "a.txt", "demo": True}, "got --demo, --text"),
        ({"text": "a.txt", "regression": True}, "leave out --regression"),
        ({"train": "a.tsv"}, "--dev is empty"),
        ({"task": "sst"}, "known: cola, sst2"),
        ({"task": "sst2"}, "--teacher is empty"),
        ({"demo": True, "compare": ["paper"]}, "known: finetune, distill, l2, released"),
        ({"text": "a.txt", "compare": ["released"]}, "known: masked_lm, distill, l2"),
        ({"demo": True, "recipe": "cadir"}, "does not exist"),
        ({"demo": True, "recipe": "../codir"}, "name of a folder"),
        ({"demo": True, "output": ""}, "--output is empty"),
    ],
)
def test_what_no_job_can_be_made_of_is_refused(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        compress(**{"output": str(tmp_path / "job"), **arguments})


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*/recipe.py")), ids=str)
def test_every_recipe_names_configs_that_load(path):
    """A new paper joins by its folder."""
    recipes = []
    for argument in ("own", "own,scratch", "demo", "demo,scratch", "text", "text,scratch", "sst2"):
        try:
            recipes.append(recipe_lib.load(path.parent.name, argument))
        except UserError:
            continue
    assert recipes
    for recipe in recipes:
        values = {name: "0" for stage in recipe.stages for name in (stage.name, *stage.placeholders())}
        values |= dict.fromkeys(("given", "tokenizer", "job"), "somewhere")
        for stage in recipe.chosen(recipe.baselines):
            if stage.config:
                recipe_lib.config_of(stage, recipe.stages, values, [], [], [])


def test_the_functions_of_the_package_are_functions_whatever_was_imported_before():
    code = """
import importlib, pkgutil
import codir_jax
names = [m.name for m in pkgutil.walk_packages(codir_jax.__path__, "codir_jax.") if ".configs" not in m.name]
first = {name: getattr(codir_jax, name) for name in codir_jax.__all__}
for name in names:
    importlib.import_module(name)
second = {name: getattr(codir_jax, name) for name in codir_jax.__all__}
assert first == second and all(map(callable, first.values())), (first, second)
assert all(f"codir_jax.{name}(" in f.__doc__ for name, f in first.items() if name != "UserError"), "an example each"
print(sorted(first))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['UserError', 'compress', 'evaluate', 'load', 'train']"


@pytest.fixture(scope="module")
def smaller(finished):
    """(folder, results) of the finished job, called again with ways to make its student smaller."""
    arguments, folder, _ = finished
    return folder, compress(**arguments, then=["int8", "units50+prune50+int4", "rank4"])


def test_a_finished_job_goes_on_with_ways_to_make_its_student_smaller(smaller):
    folder, results = smaller
    rows = results["models"]
    assert list(rows) == ["teacher", "codir", "int8", "units50+prune50+int4", "rank4"]
    for name in list(rows)[2:]:
        path = Path(rows[name]["folder"])
        assert rows[name]["bytes"] == (path / "model.packed.safetensors").stat().st_size
        assert "equal to the last bit" in rows[name]["parity"] and rows[name]["dev"]["accuracy"] >= 0
        assert (path / "unpack.py").exists() and (path / "tokenizer.json").exists()
    assert rows["int8"]["bytes"] < 0.4 * rows["codir"]["bytes"]
    assert rows["int8"]["parameters"] == rows["codir"]["parameters"] > rows["rank4"]["parameters"]
    assert "| dominated by" in (folder / "report.md").read_text()
    assert (folder / "pareto.csv").exists() and (folder / "pareto.png").exists()


def test_a_packed_folder_is_a_function_of_texts(smaller):
    import codir_jax

    folder, results = smaller
    answers = codir_jax.load(results["models"]["units50+prune50+int4"]["folder"])(["sentence number 3 is good"])
    assert answers[0]["label"] in ("good", "bad")
    assert compress_lib.find_folder(str(folder / "then" / "int8")).exists()


def test_a_limit_picks_a_row(finished, smaller):
    arguments, folder, _ = finished
    then = list(smaller[1]["models"])[2:]
    compress(**arguments, then=then, max_bytes=str(smaller[1]["models"]["int8"]["bytes"]))
    assert (folder / "picked" / "model.packed.safetensors").exists()
    with pytest.raises(UserError, match="no model of this job is within the limit"):
        compress(**arguments, then=then, max_bytes="1KB")


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("int5", "5 bits are not served"),
        ("rank4000", "changes none of"),
        ("int8@encoder/layer_9/.*", "the nearest is"),
        ("prune100", "below 1"),
        ("units0.1", "leaves everything|inner units leaves"),
    ],
)
def test_a_way_that_changes_nothing_is_told_before_anything_is_trained(
    then, message, base, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(compress_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=message):
        compress(base, **files, output=str(tmp_path / "job"), then=[then], **TINY)
    assert not (tmp_path / "job").exists()
