"""A table whose texts have any number of labels: the whole job, its report, what it serves."""

import json

import pytest
from transformers import AutoConfig

import codir_jax
from codir_jax.convert.labels import Labels
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.jobs.train import train
from codir_jax.processes.user_error import UserError

CELLS = ("good|new", "good", "", "bad", "bad|new")


@pytest.mark.slow
def test_a_table_of_several_labels_becomes_a_served_model(tmp_path, capsys):
    small = [("data.demo_num_train", "64"), ("data.demo_num_dev", "16"), ("train.total_steps", "1")]
    train("configs/codir/finetune_teacher.py:tiny", tmp_path / "base", small)
    for split, count in (("train", 60), ("test", 10)):
        lines = (f"a {CELLS[i % 5].replace('|', ' and ')} thing number {i},{CELLS[i % 5]}\n" for i in range(count))
        (tmp_path / f"{split}.csv").write_text("text,tags\n" + "".join(lines))
    job = codir_jax.compress(
        teacher=str(tmp_path / "base"),
        train=str(tmp_path / "train.csv"),
        test=str(tmp_path / "test.csv"),
        label_column="tags",
        multi_label=True,
        then=["int8"],
        output=str(tmp_path / "job"),
        overrides=[("train.total_steps", "2"), ("data.max_length", "16"), ("teacher.allow_weak", "true")],
        teacher_overrides=[("train.total_steps", "2"), ("data.class_weights", "balanced")],
    )
    told = capsys.readouterr().out
    assert "train.csv: the labels of a text are parted by '|'" in told
    assert "by the rarest of their 'tags' is set aside as dev" in told
    assert "3 classes ['bad', 'good', 'new'], 1." in told and "11 texts with none" in told  # of 12, one is in dev
    assert job["primary_metric"] == "micro_f1" and set(job["models"]["l2"]["test"]) >= {"subset_accuracy"}
    assert "int8" in job["models"] and job["answers"]["confused"] == {}
    report = (tmp_path / "job" / "report.md").read_text()
    assert "one class against the rest" in report and "What is taken for what" not in report

    export = tmp_path / "job" / "export"
    config = AutoConfig.from_pretrained(export)
    assert config.problem_type == "multi_label_classification" and config.id2label == {0: "bad", 1: "good", 2: "new"}
    assert "gives any number of 3 classes to a text" in (export / "README.md").read_text()
    answer = codir_jax.load(str(export))(["a good thing"])[0]
    assert answer["labels"] == [name for name in sorted(
        answer["probabilities"], key=answer["probabilities"].get, reverse=True
    ) if answer["probabilities"][name] > 0.5]  # fmt: skip
    scores = codir_jax.evaluate(str(tmp_path / "job"), input=str(tmp_path / "test.csv"))
    assert scores["micro_f1"] == pytest.approx(job["models"][job["exported"]]["test"]["micro_f1"])

    as_one = json.loads((export / "config.json").read_text()) | {"problem_type": "single_label_classification"}
    source = load_pretrained(export)
    labels = Labels(source.labels.names)
    save_pretrained(tmp_path / "one", source.config, source.params, labels=labels, hf_config=as_one)
    (tmp_path / "one" / "tokenizer.json").write_bytes((export / "tokenizer.json").read_bytes())
    (tmp_path / "one" / "tokenizer_config.json").write_bytes((export / "tokenizer_config.json").read_bytes())
    config = tmp_path / "job" / "l2" / "config.json"
    with pytest.raises(UserError, match="answers one class a text, data text_classification has any number"):
        codir_jax.evaluate(str(tmp_path / "one"), config=str(config))


def test_a_teacher_is_weak_where_it_ranks_no_better_than_chance(tmp_path):
    from codir_jax import config as config_lib
    from codir_jax.tasks import classification
    from tests.words import tokenizer

    (tmp_path / "train.tsv").write_text("sentence\tlabel\nthe cat\ta|b\nthe\tb\nsat\t\ncat sat\ta\n")
    config = config_lib.load("configs/codir/finetune_teacher.py:own", [("data.is_multi_label", "True")])
    config.data.update({"train_path": str(tmp_path / "train.tsv"), "dev_path": str(tmp_path / "train.tsv")})
    config.data.class_weights = "balanced"
    task = classification.make(config, tokenizer())
    assert task.head.is_multi_label and task.head.class_weights == (1.0, 1.0)
    assert "2 classes ['a', 'b'], 1.00 of them a text of train in the mean, 1 texts with none" in task.describe()
    told = task.weakness({"average_precision": 0.5, "micro_f1": 0.0}, None)
    assert told == "has an average precision of 0.500, no better than one answer for all texts (0.500)"
    assert not task.weakness({"average_precision": 0.6, "micro_f1": 0.0}, None)
    for name in ("supcl_seq", "meta_teacher"):
        config.objective.name = name
        with pytest.raises(UserError, match=f"objective.name='{name}' has a task loss of its own, which is of one"):
            classification.check(config)
