"""What a report tells of the rows, against numbers by hand."""

import numpy as np
import pytest

from codir_jax.convert.labels import Labels
from codir_jax.data.splits import RawSplit
from codir_jax.jobs import answers


class _Rows:
    """A task of six dev rows."""

    def __init__(self, labels, names, train=None):
        several = names and isinstance(labels[0], tuple)
        self.labels = Labels(names, is_regression=not names, is_multi_label=several)
        texts = [f"text {number}" for number in range(len(labels))]
        self._rows = {"dev": RawSplit(texts, labels=labels)}
        if train:
            self._rows["train"] = train

    def read_rows(self):
        return self._rows


def _logits(*classes):
    return np.eye(2, dtype=np.float32)[list(classes)]


def _compare(task, found, metric, baseline="plain"):
    settings = {"teacher": "teacher", "student": "codir", "batch_size": 4, "seed": 0}
    return answers.compare(task, found, metric=metric, baseline=baseline, **settings)


def test_classes_confusions_and_disagreements_are_those_by_hand():
    task = _Rows([0, 0, 0, 1, 1, 1], ("no", "yes"))
    found = {
        "teacher": _logits(0, 0, 0, 1, 1, 0),
        "plain": _logits(1, 1, 1, 0, 0, 0),
        "codir": _logits(0, 0, 1, 1, 1, 1),
    }
    told = _compare(task, found, "accuracy")
    assert told["num_rows"] == 6 and told["bar"] is None
    assert told["confused"] == {"matrix": [[2, 1], [0, 3]]}
    no, yes = told["by_model"]["codir"]["classes"]
    assert no == {
        "name": "no",
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert (yes["precision"], yes["recall"]) == (0.75, 1.0)
    differing = told["disagreements"]
    assert (differing["count"], differing["teacher_right"], differing["student_right"]) == (2, 1, 1)
    assert differing["rows"][0] == {"row": 3, "texts": ["text 2"], "label": "no", "teacher": "no", "student": "yes"}
    gap = told["by_model"]["codir"]["difference"]
    assert gap["mean"] == pytest.approx(5 / 6) and gap["low"] > 0
    low, high = told["by_model"]["codir"]["interval"]
    assert low <= 5 / 6 <= high and "difference" not in told["by_model"]["plain"]


def test_numbers_are_told_by_quarters_and_the_farthest_answers_first():
    task = _Rows([0.0, 1.0, 2.0, 3.0], None)
    teacher, student = (np.array(values, np.float32)[:, None] for values in ([0, 1, 2, 3], [0.5, 1, 2, 1]))
    told = _compare(task, {"teacher": teacher, "codir": student}, "pearson", baseline="")
    assert [part["error"] for part in told["by_model"]["codir"]["quarters"]] == [0.5, 0.0, 0.0, 2.0]
    assert [row["row"] for row in told["disagreements"]["rows"]][:2] == [4, 1] and told["confused"] == {}


def test_counted_words_are_judged_on_the_same_rows():
    task = _Rows([0, 1], ("no", "yes"), RawSplit(["good one", "bad one"] * 6, labels=[1, 0] * 6))
    task.read_rows()["dev"] = RawSplit(["a bad day", "a good day"], labels=[0, 1])
    told = _compare(task, {"codir": _logits(1, 1)}, "accuracy", baseline="")
    assert told["bar"]["dev"] == {"accuracy": 1.0} and "bar" in told["by_model"]
    assert told["bar"]["latency"].keys() == {"batch_1_p50_ms", "batch_4_p50_ms"} and "predictions" not in told["bar"]


def test_of_many_classes_the_most_frequent_confusions_are_listed(monkeypatch):
    monkeypatch.setattr(answers, "MAX_MATRIX_CLASSES", 1)
    task = _Rows([0, 0, 1, 1], ("no", "yes"))
    told = _compare(task, {"codir": _logits(1, 1, 0, 1)}, "accuracy", baseline="")
    assert told["confused"] == {"pairs": [["no", "yes", 2], ["yes", "no", 1]]}


def test_a_long_text_is_cut():
    task = _Rows([0], ("no", "yes"))
    task.read_rows()["dev"] = RawSplit(["word " * 200], labels=[0])
    told = _compare(task, {"teacher": _logits(0), "codir": _logits(1)}, "accuracy", baseline="")
    text = told["disagreements"]["rows"][0]["texts"][0]
    assert len(text) <= answers.MAX_CHARACTERS and text.endswith(" w ...")


def test_of_several_classes_a_text_each_is_told_and_models_agree_on_all_or_none():
    """Micro-F1 by hand: 3 of 4 labels found, none wrong: 6 / 7."""
    task = _Rows([(1, 1), (0, 1), (0, 0), (1, 0)], ("hot", "new"), RawSplit(["hot", "new", "hot new", "old"] * 4))
    task.read_rows()["train"] = task.read_rows()["train"].with_labels([(1, 0), (0, 1), (1, 1), (0, 0)] * 4)
    task.read_rows()["dev"] = RawSplit(["hot new", "new", "old", "hot"], labels=task.read_rows()["dev"].labels)
    right = np.array([[1.0, 0.5], [-1, 2], [-3, -1], [4, -2]], np.float32)
    student = right.copy()
    student[0, 0] = -0.1
    told = _compare(task, {"teacher": right, "codir": student}, "micro_f1", baseline="teacher")
    assert told["confused"] == {} and told["by_model"]["codir"]["difference"]["mean"] == pytest.approx(-1 / 7)
    hot, new = told["by_model"]["codir"]["classes"]
    assert (hot["precision"], hot["recall"], hot["support"], new["f1"]) == (1.0, 0.5, 2, 1.0)
    differing = told["disagreements"]
    assert (differing["count"], differing["teacher_right"], differing["student_right"]) == (1, 1, 0)
    expected = {"row": 1, "texts": ["hot new"], "label": "hot, new", "teacher": "hot, new", "student": "new"}
    assert differing["rows"] == [expected]
    assert told["bar"]["dev"] == {"micro_f1": 1.0} and "one class against the rest" in told["bar"]["title"]
