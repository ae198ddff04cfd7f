"""The leaderboard's files: names, header, order and the form of each prediction."""

import numpy as np
import pytest

from codir_jax.data.splits import Dataset, DatasetInfo
from codir_jax.evaluation import glue_submission


def _data(label_names, splits, is_regression=False):
    info = DatasetInfo(
        "x", 0, 0, max(len(label_names), 1), tuple(label_names), is_regression, False, ("accuracy",), {}, tuple(splits)
    )
    return Dataset(info, {split: split for split in splits}, 0, "")


def test_single_sentence_tasks_want_numbers(tmp_path):
    logits = {"test": np.array([[0.0, 1.0], [2.0, 1.0]])}
    (path,) = glue_submission.write(tmp_path, "cola", _data(("no", "yes"), ["test"]), logits.get)
    assert path.name == "CoLA.tsv"
    assert path.read_text() == "index\tprediction\n0\t1\n1\t0\n"


def test_inference_tasks_want_names_and_mnli_has_two_files(tmp_path):
    names = ("entailment", "neutral", "contradiction")
    logits = {"test": np.eye(3)[[2]], "test_mismatched": np.eye(3)[[0]]}
    paths = glue_submission.write(tmp_path, "mnli", _data(names, list(logits)), logits.get)
    assert [p.name for p in paths] == ["MNLI-m.tsv", "MNLI-mm.tsv"]
    assert paths[0].read_text().splitlines()[1] == "0\tcontradiction"
    assert paths[1].read_text().splitlines()[1] == "0\tentailment"


def test_similarity_is_clipped_to_its_scale(tmp_path):
    logits = {"test": np.array([[5.7], [-0.2], [3.14159]])}
    (path,) = glue_submission.write(tmp_path, "stsb", _data((), ["test"], True), logits.get)
    assert path.read_text().split() == ["index", "prediction", "0", "5.000", "1", "0.000", "2", "3.142"]


def test_what_is_not_glue_or_has_no_test_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="GLUE task"):
        glue_submission.write(tmp_path, "demo", _data(("a", "b"), ["test"]), None)
    with pytest.raises(ValueError, match="no split test_mismatched"):
        glue_submission.write(tmp_path, "mnli", _data(("a", "b", "c"), ["test"]), None)
