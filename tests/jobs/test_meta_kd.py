"""Meta-KD as a user runs it: a table with a column of domains in, weighted files and one student a domain out."""

import csv
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import pretrained, save
from codir_jax.data.sets import demo
from codir_jax.data.tokenizer import load_tokenizer, save_tokenizer
from codir_jax.jobs import weigh
from codir_jax.jobs.compress import compress
from codir_jax.jobs.evaluate import evaluate
from codir_jax.predict.load import load
from codir_jax.processes.user_error import UserError
from codir_jax.stage import run


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """train.tsv and dev.tsv of demo sentences; the domain is whether the sentence is long."""
    folder = tmp_path_factory.mktemp("tables")
    for split, examples in demo.generate(192, 64, 0).items():
        with open(folder / f"{split}.tsv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
            writer.writerow(["sentence", "label", "shop"])
            for row in examples:
                shop = "long" if len(row.text.split()) > 7 else "short"
                writer.writerow([row.text, demo.LABEL_NAMES[row.label], shop])
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny model that was trained on something."""
    folder = tmp_path_factory.mktemp("encoder")
    small = [("data.demo_num_train", "64"), ("data.demo_num_dev", "32"), ("data.batch_size", "32")]
    run.run(config_lib.load("configs/codir/finetune_teacher.py:tiny", small), folder)
    return folder / "best"


def _config(tables, encoder, *overrides):
    files = [(f"data.{split}_path", str(tables / f"{split}.tsv")) for split in ("train", "dev")]
    files += [("student.path", str(encoder)), ("data.max_length", "18"), ("data.num_length_buckets", "1")]
    return config_lib.load("configs/meta_kd/teacher.py:own,mixed", [*files, *overrides])


def _rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_row_gets_its_domain_and_weight_and_every_domain_a_folder(tables, encoder, tmp_path):
    told = weigh.weigh(_config(tables, encoder), "shop", tmp_path)
    rows = _rows(tmp_path / "train.jsonl")
    with open(tables / "train.tsv", encoding="utf-8") as file:
        given = [line.rstrip("\n").split("\t") for line in file][1:]
    assert [[row["sentence"], row["label"], row["domain"]] for row in rows] == given
    assert {(row["domain"], row["domain_number"]) for row in rows} == {("long", 0), ("short", 1)}
    assert [row for row in rows if row["domain"] == "short"] == _rows(tmp_path / "short" / "train.jsonl")
    weights = np.array([row["weight"] for row in rows if row["domain"] == "long"])
    assert told["weights"]["long"]["mean"] == pytest.approx(weights.mean()) and weights.std() > 0
    assert (weights >= 0).all() and (weights <= 1).all()


def test_a_folder_weighed_before_keeps_none_of_its_domains_and_splits(tables, encoder, tmp_path):
    for left, name in (("gone", "train.jsonl"), (".", "test.jsonl"), ("kept", "dev.jsonl"), ("others", "train.jsonl")):
        (tmp_path / left).mkdir(exist_ok=True)
        (tmp_path / left / name).write_text("{}\n", encoding="utf-8")
        if left != "others":
            (tmp_path / left / ".codir-weighed").touch()
    (tmp_path / "kept" / "notes.txt").write_text("mine", encoding="utf-8")
    weigh.weigh(_config(tables, encoder), "shop", tmp_path)
    assert not (tmp_path / "gone").exists() and not (tmp_path / "test.jsonl").exists()
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [".codir-weighed", "notes.txt"]
    assert (tmp_path / "others" / "train.jsonl").exists()
    assert (tmp_path / "long" / "train.jsonl").exists()


def test_a_domain_without_train_rows_is_said_aloud_and_takes_the_others_texts(tables, encoder, tmp_path, capsys):
    changed = tmp_path / "dev.tsv"
    lines = (tables / "dev.tsv").read_text(encoding="utf-8").splitlines()
    changed.write_text("\n".join([*lines, *(line.rsplit("\t", 1)[0] + "\tnew" for line in lines[1:5])]) + "\n")
    weigh.weigh(_config(tables, encoder, ("data.dev_path", str(changed))), "shop", tmp_path / "out")
    assert "domain 'new' has no train row: zero-shot" in capsys.readouterr().out
    assert _rows(tmp_path / "out" / "new" / "train.jsonl") == _rows(tmp_path / "out" / "train.jsonl")
    assert {row["domain_number"] for row in _rows(tmp_path / "out" / "new" / "dev.jsonl")} == {2}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [*lines, "the cat sleeps\tacceptable\t"], r"train\.tsv:194: empty value in column 'shop'"),
        (lambda lines: [*lines, "the cat sleeps\tacceptable\tonce"], r"train\.tsv:194: domain 'once' has this row"),
        (
            lambda lines: [*lines, *["the cat sleeps\tacceptable\tonce"] * 2],
            r"train\.tsv:194: all 2 rows of domain 'once', of which this is the first, have one class",
        ),
        (lambda lines: [line.replace("\tshort", "\tlong") for line in lines], "needs two domains"),
    ],
)
def test_a_table_that_cannot_be_weighed_is_refused(tables, encoder, tmp_path, change, told):
    lines = (tables / "train.tsv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "train.tsv").write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    config = _config(tables, encoder, ("data.train_path", str(tmp_path / "train.tsv")))
    with pytest.raises(UserError, match=f"(?s){told}"):
        weigh.weigh(config, "shop", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_stage_of_a_student_has_its_own_arms():
    with pytest.raises(UserError, match="'contrast' is an arm of prediction, the other stage"):
        config_lib.load("configs/meta_kd/student.py:own,intermediate,contrast")
    with pytest.raises(UserError, match="'no_lambda' is an arm of intermediate, the other stage"):
        config_lib.load("configs/meta_kd/student.py:own,prediction,no_lambda")
    contrast = config_lib.load("configs/meta_kd/student.py:own,prediction,contrast").objective
    plain = config_lib.load("configs/meta_kd/student.py:own,prediction").objective
    assert contrast.contrastive_weight > 0 and contrast.name == "codir" and plain.name == "distill"
    assert all(plain[name] == contrast[name] for name in plain if name != "name")


def test_a_classifier_is_judged_by_domain_and_probed_for_it(tables, encoder):
    scores = evaluate(str(encoder), input=str(tables / "dev.tsv"), domain_column="shop")
    rows = [line.rsplit("\t", 1)[1] for line in (tables / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    assert {name: found["rows"] for name, found in scores["domains"].items()} == dict(sorted(Counter(rows).items()))
    right = sum(found["rows"] * found["accuracy"] for found in scores["domains"].values())
    assert right / len(rows) == pytest.approx(scores["accuracy"])
    assert scores["accuracy"] == evaluate(str(encoder), input=str(tables / "dev.tsv"))["accuracy"]
    long = scores["domains"]["long"]
    assert long["standard_error"] == pytest.approx((long["accuracy"] * (1 - long["accuracy"]) / long["rows"]) ** 0.5)
    # It keeps no feature, and the domain is a matter of length, which a mean over tokens shows.
    assert scores["probe"].keys() == {"chance", "content"} and scores["probe"]["content"] > scores["probe"]["chance"]


def test_scores_by_domain_need_a_column_with_two_names(tables, encoder, tmp_path):
    with pytest.raises(UserError, match="domain_column are of --input"):
        evaluate(str(encoder), domain_column="shop")
    with pytest.raises(UserError, match="no column 'place'"):
        evaluate(str(encoder), input=str(tables / "dev.tsv"), domain_column="place")
    one = tmp_path / "one.tsv"
    one.write_text((tables / "dev.tsv").read_text(encoding="utf-8").replace("\tshort", "\tlong"), encoding="utf-8")
    with pytest.raises(UserError, match=r"all rows of .* are of domain 'long'"):
        evaluate(str(encoder), input=str(one), domain_column="shop")


def test_texts_are_weighed_anew_unless_they_are_the_same(tables, encoder, tmp_path, capsys):
    for split in ("train", "dev"):
        shutil.copy(tables / f"{split}.tsv", tmp_path / f"{split}.tsv")
    small = [("data.max_length", "18"), ("data.num_length_buckets", "1")]
    files = [*small, *((f"data.{split}_path", str(tmp_path / f"{split}.tsv")) for split in ("train", "dev"))]
    job = tmp_path / "job"

    def prepared(*domains, is_begun=False):
        weigh.prepare("shop", domains, job, str(encoder), files, is_begun)
        return "weighing" in capsys.readouterr().out

    assert prepared("long") and not prepared("long")
    assert prepared("long", "short", is_begun=True)  # a further domain
    assert (job / "weighed" / "short" / "train.jsonl").exists()
    with open(tmp_path / "train.tsv", "a", encoding="utf-8") as file:
        file.write("the cats sleep\tacceptable\tlong\n")
    with pytest.raises(UserError, match="the data changed since"):
        prepared("long", is_begun=True)
    assert prepared("long") and _rows(job / "weighed" / "train.jsonl")[-1]["sentence"] == "the cats sleep"


def test_a_domain_that_is_a_number_has_the_name_of_the_file():
    assert [weigh.name_of(value) for value in (2.0, np.float64(10), 2.5, "2.0", "a")] == ["2", "10", "2.5", "2.0", "a"]


def test_centred_weights_need_a_class_of_each_text(tables, encoder, tmp_path):
    config = _config(tables, encoder, ("data.unlabelled_path", str(tables / "dev.tsv")))
    with pytest.raises(UserError, match="--centred weighs a text by its class"):
        weigh.weigh(config, "shop", tmp_path / "out", by="class", centred=True)


def test_the_recipe_asks_for_what_it_needs(tables, encoder, tmp_path):
    files = {"train": str(tables / "train.tsv"), "dev": str(tables / "dev.tsv"), "output": str(tmp_path / "job")}
    with pytest.raises(UserError, match="needs --domain_column"):
        compress(str(encoder), recipe="meta_kd", **files)
    with pytest.raises(UserError, match="--domains has medium, which no file has; it has: long, short"):
        compress(str(encoder), recipe="meta_kd", domain_column="shop", domains=["medium"], **files)
    assert not (tmp_path / "job").exists()


def _job(tables, encoder):
    """Arguments of `compress`: a job of two domains, a short epoch a stage."""
    short = {"data.max_length": 18, "data.num_length_buckets": 1, "train.total_epochs": 1, "teacher.allow_weak": True}
    files = {split: str(tables / f"{split}.tsv") for split in ("train", "dev")}
    recipe = {"recipe": "meta_kd", "teacher": str(encoder), "domain_column": "shop", "layers": 1}
    return {**files, **recipe, "overrides": short}


@pytest.mark.slow
def test_the_whole_job_leaves_a_student_a_domain_and_is_not_run_again(tables, encoder, tmp_path, capsys):
    alone = tmp_path / "encoder"  # as the README's: without a head
    source = pretrained.load_pretrained(encoder)
    save.save_pretrained(alone, source.config, {"encoder": source.params["encoder"]}, head="embedding")
    save_tokenizer(load_tokenizer(encoder), alone)
    arguments = {**_job(tables, alone), "compare": ["mixed", "contrast", "finetune"], "output": str(tmp_path / "job")}
    arguments["overrides"]["mixed_long.train.total_steps"] = 2
    results = compress(**arguments)
    saved = {name: json.loads((tmp_path / "job" / name / "config.json").read_text()) for name in results["models"]}
    assert [name for name, config in saved.items() if config["train"]["total_steps"] == 2] == ["mixed_long"]
    for name in ("long", "short"):
        exported = pretrained.load_pretrained(tmp_path / "job" / "export" / name, head="classification")
        assert exported.config.num_layers == 1 and exported.labels.names == ("acceptable", "unacceptable")
        assert {f"{arm}_{name}" for arm in ("student", "mixed", "contrast", "finetune")} <= results["models"].keys()
        assert f"{name}: parity passed" in results["parity"]
    assert (tmp_path / "job" / "meta_teacher" / "best" / "sides.safetensors").exists()
    found = results["arms"]["by_arm"]
    assert list(found) == ["student", "finetune", "mixed", "contrast", "bar"]
    dev = {name: results["models"][f"mixed_{name}"]["dev"]["accuracy"] for name in ("long", "short")}
    assert found["mixed"]["by_domain"] == dev and "less that of Meta-KD" in results["verdict"]
    probed = evaluate(str(tmp_path / "job" / "meta_teacher"), input=str(tables / "dev.tsv"), domain_column="shop")
    assert probed["probe"].keys() == {"chance", "content", "feature", "unlabelled"}
    with pytest.raises(UserError, match=r"has several models; name one: .*long,short"):
        load(str(tmp_path / "job"))
    capsys.readouterr()
    assert compress(**arguments)["models"].keys() == results["models"].keys()
    assert "already finished" in capsys.readouterr().out
    other = "student" if ": Meta-KD (" not in results["why_exported"] else "mixed"
    again = compress(**{**arguments, "compare": [], "export": other})
    assert again["models"].keys() == results["models"].keys()  # what was compared before stays
    assert f"as --export={other} says" in again["why_exported"]
    weights = [tmp_path / "job" / name / "model.safetensors" for name in ("export/long", f"{other}_long/best")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_a_job_that_was_stopped_ends_with_the_bits_of_one_that_was_not(tables, encoder, tmp_path):
    arguments = {**_job(tables, encoder), "export": "student"}

    def stop(workdir, step, values):
        if workdir.endswith("inside_short"):
            raise KeyboardInterrupt

    compress(output=str(tmp_path / "straight"), **arguments)
    with pytest.raises(KeyboardInterrupt):
        compress(output=str(tmp_path / "stopped"), on_step=stop, **arguments)
    stopped = tmp_path / "stopped"
    finished = {path.parent.name: path.stat().st_mtime_ns for path in stopped.glob("*/results.json")}
    assert finished and "student_short" not in finished
    compress(output=str(stopped), **arguments)
    assert all((stopped / name / "results.json").stat().st_mtime_ns == time for name, time in finished.items())
    for path in ("meta_teacher/best", "export/long", "export/short"):
        straight, again = (tmp_path / name / path / "model.safetensors" for name in ("straight", "stopped"))
        assert straight.read_bytes() == again.read_bytes()


@pytest.mark.slow
def test_without_files_it_demonstrates_itself(tmp_path):
    few = [("train.total_epochs", "0.5"), ("data.domains_num_train", "256"), ("teacher.allow_weak", "True")]
    results = compress(recipe="meta_kd", output=str(tmp_path / "job"), overrides=few, workers=2)
    assert "dev:" in (tmp_path / "job" / "student_inside_farm" / "log.txt").read_text()
    domains = ["castle", "farm", "harbour", "school"]
    students = [f"student_{name}" for name in domains]
    assert list(results["models"]) == ["mixed_teacher", "meta_teacher", *students]
    assert sorted(path.name for path in (tmp_path / "job" / "export").iterdir()) == domains
    vocabularies = {(tmp_path / "job" / name / "best" / "tokenizer.json").read_text() for name in students}
    assert len(vocabularies) == 1
