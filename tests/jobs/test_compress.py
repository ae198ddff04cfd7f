"""The whole job: what holds for all of its stages, and what is refused before its teacher is trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import codir_jax
from codir_jax import config as config_lib
from codir_jax.data.tokenizer import load_tokenizer
from codir_jax.jobs import chosen, screen
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs import results as results_lib
from codir_jax.jobs import work as work_lib
from codir_jax.jobs.compress import compress
from codir_jax.processes import whole
from codir_jax.processes.user_error import CannotWriteError, UserError
from codir_jax.stage import workdir
from codir_jax.tasks import classification

WATCHED = []  # what the calls of the module's job were told
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
    own["overrides"].append(("student.dropout", "0.1"))  # to its few words all texts are one: else seeds are equal
    arguments = {"teacher": base, **files, "output": str(folder), **own}
    watchers = {name: lambda *told, name=name: WATCHED.append((name, *told)) for name in ("on_step", "on_evaluation")}
    return arguments, folder, compress(**arguments, **watchers)


def test_what_is_said_of_the_data_holds_for_the_teacher_too(finished):
    """Before, the teacher took its classes in another order and the student was refused when it was trained."""
    _, folder, results = finished
    for stage in ("teacher", "l2"):
        config = json.loads((folder / stage / "config.json").read_text())
        assert (config["data"]["label_names"], config["data"]["max_length"]) == ("good,bad", 16)
        told = json.loads((folder / stage / "best" / "config.json").read_text())
        assert told["id2label"] == {"0": "good", "1": "bad"}
    assert json.loads((folder / "export" / "config.json").read_text())["id2label"] == {"0": "good", "1": "bad"}
    stages = [json.loads((folder / stage / "results.json").read_text()) for stage in ("teacher", "l2")]
    assert results["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))
    assert results["main"] == "l2" and list(results["models"]) == ["teacher", "l2"]


def test_who_calls_is_told_of_every_stage_what_its_metrics_hold(finished):
    _, folder, _ = finished
    for stage in ("teacher", "l2"):
        lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
        told = [what for what in WATCHED if what[1] == str(folder / stage)]
        steps = [(step, values) for name, _, step, values in told if name == "on_step"]
        assert steps == [
            (line["step"], {k: v for k, v in line.items() if k != "step"}) for line in lines if "loss" in line
        ]
        scores = [(step, values["accuracy"]) for name, _, step, values in told if name == "on_evaluation"]
        assert scores == [(line["step"], line["dev_accuracy"]) for line in lines if "dev_accuracy" in line] != []


def test_the_export_cuts_a_text_where_the_student_was_judged(finished):
    """16 tokens, here, in transformers and in tokenizers, and on the card; the model has 512 positions."""
    _, folder, _ = finished
    export, classify = folder / "export", codir_jax.load(str(folder / "export"))
    words = ["sentence", "number", "is", "good"] * 8
    long, other = " ".join(words), " ".join(words[:16] + ["bad"] * 16)
    assert classify([long])[0]["logits"] == classify([other])[0]["logits"]
    assert len(AutoTokenizer.from_pretrained(export)(long, truncation=True)["input_ids"]) == 16
    assert len(Tokenizer.from_file(str(export / "tokenizer.json")).encode(long).ids) == 16
    assert "At most 16 tokens" in (export / "README.md").read_text()


def test_a_model_is_judged_by_a_file_as_by_the_split_of_the_same_rows(finished, files, tmp_path):
    """Columns are those of its run, classes and length the model's own; a folder that is no run is told its columns."""
    _, folder, results = finished
    dev = results["models"]["l2"]["dev"]
    assert codir_jax.evaluate(str(folder / "l2"), input=files["dev"])["accuracy"] == pytest.approx(dev["accuracy"])
    other = tmp_path / "other.tsv"
    other.write_text(Path(files["dev"]).read_text().replace("sentence\tlabel", "text\tclass", 1))
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("text\tsecond\tclass\n" + "a cat\ta dog\tgood\na dog\ta cat\tbad\n")
    model, columns = str(folder / "export"), {"text_column": "text", "label_column": "class"}
    assert codir_jax.evaluate(model, input=str(other), **columns)["accuracy"] == pytest.approx(dev["accuracy"])
    for arguments, message in (
        ({"input": str(other), "text_column": "txt"}, "did you mean 'text'"),
        ({"input": str(pairs), "text_column": "text", "text_pair_column": "second"}, "answers single texts"),
        ({"text_column": "text"}, "are of --input"),
        ({"input": str(other), "config": "c.py"}, "leave one out"),
    ):
        with pytest.raises(UserError, match=message):
            codir_jax.evaluate(model, **{**({"label_column": "class"} if "input" in arguments else {}), **arguments})


def test_a_regression_starts_at_the_mean_of_its_targets_and_answers_in_their_units(base, tmp_path):
    rows = [(f"sentence number {i}", 100 + 5 * (i % 3 - 1)) for i in range(32)]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("sentence\tlabel\n" + "".join(f"{a}\t{y}\n" for a, y in rows))
    own = {"data.train_path": tmp_path / "train.tsv", "data.dev_path": tmp_path / "dev.tsv", "student.path": base}
    settings = {"data.is_regression": True, "train.total_steps": 1, "train.log_every_steps": 1, **own}
    run = codir_jax.train(
        "configs/codir/finetune_teacher.py:own", tmp_path / "run", [(k, str(v)) for k, v in settings.items()]
    )
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["task_loss"] == pytest.approx(1, abs=0.2)  # the variance of standardised targets; of raw ones 10,000
    assert run["dev"]["r2"] == pytest.approx(0, abs=0.2)
    answers = codir_jax.load(str(tmp_path / "run"))([text for text, _ in rows])
    assert all(abs(answer["value"] - 100) < 5 for answer in answers)


def test_a_regression_no_better_than_the_mean_teaches_nothing(base, tmp_path):
    """Its answers correlate with the targets, in other units."""
    lines = "".join(f"sentence number {i}\t{i / 8}\n" for i in range(32))
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n" + lines)
    config = config_lib.load("configs/codir/finetune_teacher.py:own", [("data.is_regression", "True")])
    config.data.update({"train_path": str(tmp_path / "train.tsv"), "dev_path": str(tmp_path / "train.tsv")})
    task = classification.make(config, load_tokenizer(Path(base) / "best"))
    assert (task.head.mean, task.head.scale) == pytest.approx((1.9375, np.std(np.arange(32) / 8)))
    assert "no better than always answering the mean" in task.weakness({"r2": -7.0, "pearson": 0.9}, None)
    assert not task.weakness({"r2": 0.1, "pearson": 0.4}, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([("objective.layer_matches", "1:9")], "layer 9"),
        ([("student.num_layers", "3")], "a student of 3 layers"),
        ([("data.max_length", "1024")], "512 positions"),
        ([("data.label_names", "good,evil")], "unknown label 'bad'"),
        ([("objective.hidden_unit", "words")], "words"),
        ([("train.num_microbatches", "3")], "not divisible by train.num_microbatches=3"),
    ],
)
def test_what_a_student_cannot_be_is_told_before_the_teacher_is_trained(
    overrides, message, base, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=message):
        compress(base, **files, output=str(tmp_path / "job"), overrides=overrides)
    assert not (tmp_path / "job").exists()


def test_a_student_on_text_is_checked_before_a_teacher_of_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(UserError, match="layer 9"):
        compress(text="demo:24", output=str(tmp_path / "job"), overrides=[("objective.layer_matches", "1:9")])


def test_who_accepts_a_weak_teacher_later_goes_on_with_the_baselines_that_are_finished(tmp_path):
    """Such a baseline needs no teacher: it was finished before the teacher was refused."""
    config = config_lib.load("configs/codir/finetune_distill.py:tiny,finetune", [("teacher.allow_weak", "false")])
    workdir.claim(config, tmp_path)
    results = {"seconds": 1.0, "dev": {}, "best_step": 1, "metrics": []}
    whole.write_json(tmp_path / "results.json", results)
    config.teacher.allow_weak = True
    assert workdir.claim(config, tmp_path) == results


def test_a_folder_with_another_job_is_refused_with_the_keys_that_differ(finished):
    arguments, _, _ = finished
    with pytest.raises(UserError, match=r"(?s)other settings.*seed: 3 here, 0 there \(teacher, l2\)"):
        compress(**arguments, seed=3)


def test_other_data_under_the_same_name_are_no_data_of_a_finished_job(finished, files):
    arguments, folder, _ = finished
    path = Path(files["train"])
    content = path.read_text()
    try:
        path.write_text(content.replace("\tgood", "\tBAD").replace("\tbad", "\tgood").replace("\tBAD", "\tbad"))
        with pytest.raises(UserError, match=f"the data changed since {folder / 'teacher'} was trained"):
            compress(**arguments, compare="finetune")
    finally:
        path.write_text(content)


def test_a_licence_named_later_comes_into_the_card(finished, monkeypatch):
    arguments, folder, results = finished
    monkeypatch.setattr(work_lib, "train_stage", lambda config, place, **_: workdir.read_results(place))
    assert compress(**arguments, license="mit", language="en")["models"].keys() == results["models"].keys()
    card = (folder / "export" / "README.md").read_text()
    assert "license: mit" in card and "- en" in card and "split: dev" in card


def test_a_finished_job_goes_on_with_what_is_compared_anew_and_exports_the_best(finished, monkeypatch):
    """The teacher and the student are left as they are, and a later call without the baseline keeps its row."""
    arguments, folder, _ = finished
    ages = {name: (folder / name / "results.json").stat().st_mtime_ns for name in ("teacher", "l2")}
    results = compress(**arguments, compare="l2,finetune")
    assert list(results["models"]) == ["teacher", "finetune", "l2"]
    assert ages == {name: (folder / name / "results.json").stat().st_mtime_ns for name in ages}
    scores = {name: results["models"][name]["dev"]["accuracy"] for name in ("l2", "finetune")}
    assert scores[results["exported"]] == max(scores.values())
    assert results["why_exported"] in (folder / "report.md").read_text()
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    assert compress(**arguments) == results
    assert "cost of 1 million texts" not in (folder / "report.md").read_text()
    assert {**compress(**arguments, price_per_hour=2.0), "price_per_hour": None} == results
    assert "cost of 1 million texts" in (folder / "report.md").read_text()
    with pytest.raises(UserError, match="known: best, finetune, l2"):
        compress(**arguments, export="codir")


def test_a_job_in_python_has_its_student_its_table_and_its_report(finished):
    arguments, folder, results = finished
    job = compress(**arguments)
    assert job.student(["sentence number 3 is good"])[0]["label"] in ("good", "bad")
    first, second, bar = [row for row in job.table if row["name"] in ("teacher", "l2", "bar")]
    assert first["dev"] == results["models"]["teacher"]["dev"]["accuracy"]
    assert second["title"] == "student, soft targets + L2"
    assert bar["dev"] == 1.0  # the words good and bad are the labels
    assert job.report == folder / "report.html" and job["verdict"].split()[0] in str(job).split()
    told = job.report.read_text()
    assert "TF-IDF" in told and f"--train={arguments['train']}" in told


def test_more_seeds_train_the_students_again_under_the_teacher_that_is_there(finished):
    """The first seed's stages are left as they are; the mean is of both, and another call keeps them."""
    arguments, folder, _ = finished
    ages = {name: (folder / name / "results.json").stat().st_mtime_ns for name in ("teacher", "l2")}
    job = compress(**arguments, seeds=2)
    assert ages == {name: (folder / name / "results.json").stat().st_mtime_ns for name in ages}
    assert not (folder / "seeds" / "1" / "teacher").exists()
    runs = [json.loads((place / "l2" / "results.json").read_text()) for place in (folder, folder / "seeds" / "1")]
    assert [run["seed"] for run in runs] == [0, 1] and runs[0]["best_fingerprint"] != runs[1]["best_fingerprint"]
    assert runs[0]["teacher_fingerprint"] == runs[1]["teacher_fingerprint"]
    row = job["over_seeds"]["l2"]
    assert row["scores"] == [run["dev"]["accuracy"] for run in runs] and row["mean"] == sum(row["scores"]) / 2
    assert compress(**arguments)["seeds"] == [0, 1] and "Over 2 seeds" in (folder / "report.md").read_text()


STUDENTS = (
    recipe_lib.StageSpec("teacher", "teacher", "a.py"),
    recipe_lib.StageSpec("finetune", "student, fine-tuning", "a.py"),
    recipe_lib.StageSpec("codir", "student, CoDIR", "a.py"),
)


@pytest.mark.parametrize(
    ("wanted", "scores", "higher", "name", "told"),
    [
        ("best", {"teacher": 0.9, "finetune": 0.8, "codir": 0.7}, True, "finetune", "then student, CoDIR (m 0.7000)"),
        ("best", {"teacher": 0.9, "finetune": 0.8, "codir": 0.7}, False, "codir", "the best on dev of 2"),
        ("best", {"finetune": 0.8, "codir": 0.8}, True, "codir", "the best on dev of 2"),
        ("best", {"codir": 0.8}, True, "codir", "the only student"),
        ("codir", {"finetune": 0.8, "codir": 0.7}, True, "codir", "the best on dev is student, fine-tuning (m 0.8000)"),
        ("best", {}, True, "codir", "no dev file"),
        ("finetune", {}, True, "finetune", "no dev file"),
    ],
)
def test_what_is_exported_and_why(wanted, scores, higher, name, told):
    metric = {"name": "m", "higher_is_better": higher}
    titles = {stage.name: stage.title for stage in chosen.candidates(STUDENTS)}
    found = chosen.choose(wanted, titles, {key: {"m": value} for key, value in scores.items()}, metric, "codir")
    assert found[0] == name and told in found[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": "a"}, "give one of --train .*got none"),
        ({"dev": "a.tsv"}, "give one of --train .*got none"),
        ({"text": "a.txt", "demo": True}, "got --demo, --text"),
        ({"text": "a.txt", "regression": True}, "leave out --regression"),
        ({"task": "sst2", "dev": "a.tsv"}, "--task=sst2 brings its own data: leave out --dev"),
        ({"train": "a.tsv", "glue_dir": "glue"}, "--glue_dir=glue is of --task"),
        ({"train": "a.tsv"}, "no such file"),
        ({"task": "sst"}, "known: cola, sst2"),
        ({"task": "sst2"}, "--teacher is empty"),
        ({"demo": True, "compare": ["paper"]}, "known: finetune, distill, released, codir"),
        ({"text": "a.txt", "compare": ["released"]}, "known: masked_lm, distill, l2"),
        ({"demo": True, "recipe": "cadir"}, "does not exist"),
        ({"demo": True, "recipe": "../codir"}, "name of a folder"),
        ({"demo": True, "output": ""}, "--output is empty"),
        ({"demo": True, "seeds": [0, 1]}, r"--seeds=\[0, 1\]: expected a whole number"),
        ({"demo": True, "seed": 1.5}, "--seed=1.5: expected a whole number"),
        ({"demo": True, "then": "int8,what"}, "--then=what"),
        ({"demo": True, "max_bytes": 0}, "--max_bytes='0'"),
        ({"demo": True, "recipe": "language_model", "format": ["stablehlo"]}, "this model has a language_model head"),
    ],
)
def test_what_no_job_can_be_made_of_is_refused(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        compress(**{"output": str(tmp_path / "job"), **arguments})


OF_DOMAINS = "own,column=shop,domain=books,domain=dvd,with=test"


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*/recipe.py")), ids=str)
def test_every_recipe_names_configs_that_load(path):
    """A new paper joins by its folder."""
    recipes = []
    for argument in ("own", "own,scratch", "demo", "demo,scratch", "text", "text,scratch", "sst2", OF_DOMAINS):
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


SMALLER = ("int8", "units50+prune50+int4", "rank4")


@pytest.fixture(scope="module")
def smaller(finished):
    """(folder, results) of the finished job, called again with ways to make its student smaller."""
    arguments, folder, _ = finished
    return folder, compress(**arguments, then=list(SMALLER))


def test_a_finished_job_goes_on_with_ways_to_make_its_student_smaller(smaller):
    folder, results = smaller
    rows = results["models"]
    assert set(rows) >= {"teacher", "l2", *SMALLER}
    for name in SMALLER:
        path = Path(rows[name]["folder"])
        assert rows[name]["bytes"] == (path / "model.packed.safetensors").stat().st_size
        assert "equal to the last bit" in rows[name]["parity"] and rows[name]["dev"]["accuracy"] >= 0
        assert (path / "unpack.py").exists() and (path / "tokenizer.json").exists()
    assert rows["int8"]["bytes"] < 0.4 * rows["l2"]["bytes"]
    assert rows["int8"]["parameters"] == rows["l2"]["parameters"] > rows["rank4"]["parameters"]
    assert "| dominated by" in (folder / "report.md").read_text()
    assert (folder / "pareto.csv").exists() and (folder / "report.html").exists()


def test_what_was_made_smaller_stays_in_the_table_of_a_call_that_does_not_name_it(smaller, finished, capsys):
    arguments, _, _ = finished
    assert compress(**arguments)["models"].keys() == smaller[1]["models"].keys()
    assert "already finished" in capsys.readouterr().out


@pytest.mark.parametrize("price", [-3.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(finished, price):
    with pytest.raises(UserError, match=r"--price_per_hour=.*expected a number, 0 or more"):
        compress(**finished[0], price_per_hour=price)


def test_a_packed_folder_is_a_function_of_texts(smaller):
    import codir_jax

    folder, results = smaller
    answers = codir_jax.load(results["models"]["units50+prune50+int4"]["folder"])(["sentence number 3 is good"])
    assert answers[0]["label"] in ("good", "bad")
    assert work_lib.find_folder(str(folder / "then" / "int8")).exists()


def test_a_finished_job_is_served_with_the_words_of_train_and_in_another_format(finished, files):
    pytest.importorskip("flatbuffers")
    arguments, folder, _ = finished
    assert "test" not in compress(**arguments)["models"]["l2"]
    assert compress(**arguments, test=files["train"])["models"]["l2"]["test"]["accuracy"] > 0  # and it stays
    results = compress(**arguments, prune_vocabulary=True, format=["stablehlo"])
    row, whole = results["models"]["pruned"], results["models"]["l2"]
    assert row["words"] < row["words_before"] and row["difference"] <= 1e-5
    assert row["dev"] == {name: pytest.approx(whole["dev"][name]) for name in row["dev"]}
    hidden = json.loads((folder / "export" / "config.json").read_text())["hidden_size"]
    assert whole["parameters"] - row["parameters"] == (row["words_before"] - row["words"]) * hidden
    assert list(results["formats"]) == ["huggingface", "stablehlo"]
    for served in results["formats"].values():
        assert served["batch_1_ms"] > 0 and served["bytes"] > 0
        assert [served[split]["accuracy"] for split in ("dev", "test")] == [
            row[split]["accuracy"] for split in ("dev", "test")
        ]
    assert "stablehlo parity passed" in results["parity"] and "stablehlo" in (folder / "report.md").read_text()
    told = json.loads((folder / "export" / "config.json").read_text())
    assert told["id2label"] == {"0": "good", "1": "bad"} and told["vocab_size"] == row["words"]
    answers = [codir_jax.load(str(path))(["sentence number 3 is good"]) for path in (folder / "export", folder / "l2")]
    assert answers[0][0]["logits"] == pytest.approx(answers[1][0]["logits"], abs=1e-5)


def test_a_full_disk_at_the_end_is_told_in_a_sentence_whichever_library_meets_it(tmp_path, monkeypatch):
    def of_job(*_):  # as the error of tokenizers, which is no OSError
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(results_lib, "of_job", of_job)
    work = object.__new__(work_lib.Work)
    work.folder = tmp_path / "job"
    with pytest.raises(CannotWriteError, match=r"job cannot be written \(No space left on device\)"):
        work._finish({}, {}, False)


def test_a_vocabulary_is_pruned_of_a_job_that_begins(base, files, tmp_path, monkeypatch):
    """The teacher, whose words the student takes over, is not there yet when the job is looked through."""

    class Trains(Exception):
        pass

    def train_stage(config, workdir, **watchers):
        raise Trains(workdir)

    monkeypatch.setattr(work_lib, "train_stage", train_stage)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Trains, match="teacher"):
        compress(teacher=base, **files, output="mine", prune_vocabulary=True, **TINY)


def test_a_limit_picks_a_row(finished, smaller):
    arguments, folder, _ = finished
    then = list(SMALLER)
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
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(UserError, match=message):
        compress(base, **files, output=str(tmp_path / "job"), then=[then], **TINY)
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("splits", [("dev",), ("dev", "test")], ids=["dev", "dev and test"])
def test_the_table_fits_a_terminal(splits):
    row = {
        **{split: {"matthews_correlation": -0.1234} for split in splits},
        "title": "student, CoDIR (released)",
        "num_layers": 12,
        "parameters": 355_000_000,
        "bytes": 4 * 355_000_000,
        "latency": {"batch_1_p50_ms": 123.4, "batch_32_p50_ms": 4567.8},
        "speed_up": 12.34,
    }
    metrics = [{"name": "matthews_correlation", "higher_is_better": True}]
    results = {"primary_metric": "matthews_correlation", "metrics": metrics, "models": {"a": row, "b": row}}
    results |= {"latency_batch": 32, "answers": None}
    told = screen.table(results)
    assert max(map(len, told.splitlines())) <= 80
    for cell in ("-0.1234", "355.00", "1354.2", "123.4", "4567.8", "12.34", "MCC", "(released)"):
        assert cell in told
