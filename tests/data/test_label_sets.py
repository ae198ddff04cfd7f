"""Cells of several labels: what they hold, and what is wrong with them by file and line."""

import json

import numpy as np
import pytest

from codir_jax.data import dev_split, label_sets, settings
from codir_jax.data.data_error import DataError
from codir_jax.data.sets import text_classification
from codir_jax.jobs import own_data
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads labels as a .tsv of texts, or lists of them as .jsonl; dev likewise."""
    said = []
    monkeypatch.setattr(console, "say", said.append)

    def of_labels(labels, dev=None, **fields):
        options = settings.default_config()
        options.update({"name": "text_classification", "is_multi_label": True, **fields})
        for split, cells in (("train", labels), ("dev", dev)):
            if cells is None:
                continue
            is_text = all(isinstance(cell, str) for cell in cells)
            path = tmp_path / f"{split}.{'tsv' if is_text else 'jsonl'}"
            rows = [{"sentence": f"the {i}th {split} text", "label": cell} for i, cell in enumerate(cells)]
            lines = ["sentence\tlabel"] * is_text
            lines += ["\t".join(row.values()) if is_text else json.dumps(row) for row in rows]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            options[f"{split}_path"] = str(path)
        return text_classification.read(options)

    of_labels.said = said
    return of_labels


@pytest.mark.parametrize(
    "cells",
    [["b|a", "", "c", "a"], ["b, a", " ", "c", "a"], ["b;a", "", "c", "a"], [["b", "a"], [], ["c"], "a"],
     [["b", "a"], None, "c", ["a"]]],
)  # fmt: skip
def test_joined_names_and_lists_say_the_same(cells, read):
    raw = read(cells)
    assert raw.label_names == ("a", "b", "c") and raw.is_multi_label and not raw.is_regression
    assert raw.splits["train"].labels == [(1, 1, 0), (0, 0, 0), (0, 0, 1), (1, 0, 0)]
    assert raw.metrics[0] == "micro_f1"


def test_the_separator_is_told_or_given(read):
    read(["a|b", "a", "b"])
    assert read.said == ["train.tsv: labels of a text are parted by '|'"]
    assert read(["a, x|b", "b", ""], label_separator="|").label_names == ("a, x", "b")
    with pytest.raises(UserError, match=r"They hold ',', as 'a,b' and '\|', as 'b\|c'; set data.label_sep"):
        read(["a,b", "b|c", "a"])


def test_numbers_are_names_in_the_order_of_numbers(read):
    raw = read([[10, 2], [2], [], [1]])
    assert raw.label_names == ("1", "2", "10") and raw.splits["train"].labels[0] == (0, 1, 1)


def test_texts_of_a_test_file_may_have_no_labels_at_all(read, tmp_path):
    (tmp_path / "test.tsv").write_text("sentence\tlabel\nx y\t\nz\t\n")
    assert read(["a", "b", ""], test_path=str(tmp_path / "test.tsv")).splits["test"].labels is None


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["a|b", "a||b", "b"], r"train.tsv:3: an empty name in the labels 'a\|\|b'"),
        (["a|b", "b|", "b"], "train.tsv:3: an empty name"),
        (["a|b", "a|a", "b"], "train.tsv:3: labels 'a|a' name 'a' twice"),
        (["a", "b", "['a', 'b']"], "train.tsv:4: labels .* are a list written as text; join the names by"),
        ([["a"], ["b", "\ud800"]], "train.jsonl:2: broken encoding in the labels: half a surrogate pair"),
        ([["a"], ["b", None]], "train.jsonl:2: label 'None' is a NoneType; expected a name"),
        ([["a"], ["b"], {"x": 1}], "train.jsonl:3: label .* is a dict; expected a name"),
        ([["a"], ["b", ["c"]]], "train.jsonl:2: label .* is a list; expected a name"),
        (["a|b", "a", "a|c"], "train.tsv: every text of train has the class 'a'; there is nothing to learn of it"),
        (["", "", ""], "train.tsv: no row has a label"),
        (["a", "", "a"], "train.tsv: only one class, 'a'; expected at least two"),
        ([f"c{i}|d{i}" for i in range(30)], "60 classes in 30 rows"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(cells, told, read):
    with pytest.raises(DataError, match=told):
        read(cells)


def test_classes_that_train_or_the_user_does_not_have_are_told(read):
    with pytest.raises(DataError, match=r"dev.tsv:3: unknown label 'smal'; known: big, small; did you mean 'small'"):
        read(["big", "small", ""], dev=["big", "smal|big"], label_separator="|")
    with pytest.raises(DataError, match=r"train.tsv: class 'c' has no example in train"):
        read(["a", "b", "a"], label_names="a,b,c")


def test_fields_that_contradict_each_other_are_refused(read):
    with pytest.raises(UserError, match="labels are numbers or names; set one of them"):
        read(["1", "2"], is_regression=True)
    with pytest.raises(UserError, match=r"data.label_separator='\|' is of texts with several classes"):
        read(["a", "b"], is_multi_label=False, label_separator="|")


@pytest.mark.parametrize("cells", [["a|b", "a", "b"], ["a;b", "b;c", "a;c"], ["a,b", "a", "b"]])
def test_one_label_that_seems_to_be_several_is_no_class(cells, read):
    with pytest.raises(DataError, match=r"joins labels that others have too: 'a', 'b' .*--multi_label"):
        read(cells, is_multi_label=False)


def test_names_with_commas_and_bars_of_their_own_are_classes(read):
    assert read(["Albany, NY", "Troy, NY", "Troy, NY"], is_multi_label=False).label_names == ("Albany, NY", "Troy, NY")
    assert read(["a|b", "a", "b"], is_multi_label=False, label_names="a,b,a|b").label_names == ("a", "b", "a|b")
    with pytest.raises(DataError, match=r"train.jsonl:1: label .* is a list; expected a name \(for several labels"):
        read([["a"], "b"], is_multi_label=False)


def test_the_rarest_label_of_each_text():
    sets = [["news", "sport"], ["sport"], [], ["sport", "news", "x"], ["sport"]]
    assert label_sets.rarest(sets) == ["news", "sport", "", "x", "sport"]


def test_no_class_loses_all_of_its_texts_to_dev():
    """Two texts of `a` lie in the strata of `b` and `c`, of two texts each: some seeds draw both."""
    sets = [["a", "b"], ["b"], ["a", "c"], ["c"]]
    moved = 0
    for seed in range(20):
        in_dev = dev_split.draw_with_sets(list("wxyz"), sets, seed)
        assert {name for row in np.flatnonzero(~in_dev) for name in sets[row]} == {"a", "b", "c"}
        moved += in_dev.sum() < 2
    assert moved


def _columns(folder, rows, **fields):
    options = settings.default_config()
    options.update({"name": "text_classification", "is_multi_label": True, "label_column": "hot, new"} | fields)
    for split in ("train", "dev"):
        (folder / f"{split}.csv").write_text("sentence,hot,new\n" + "".join(f"a {row[0]},{row}\n" for row in rows))
        options[f"{split}_path"] = str(folder / f"{split}.csv")
    return text_classification.read(options)


def test_a_column_of_0_and_1_a_class_says_the_same_as_names(tmp_path):
    raw = _columns(tmp_path, ["1,0", "0,True", "1.0,1", "0,false"])
    assert raw.label_names == ("hot", "new") and raw.is_multi_label
    assert raw.splits["train"].labels == [(1, 0), (0, 1), (1, 1), (0, 0)] == raw.splits["dev"].labels
    with pytest.raises(DataError, match=r"train\.csv:3: '2' in column 'hot'; expected 1 for a text of the class"):
        _columns(tmp_path, ["1,0", "2,1"])
    with pytest.raises(DataError, match="class 'new' has no example in train"):
        _columns(tmp_path, ["1,0", "0,0"])
    with pytest.raises(UserError, match="names a column twice, or none"):
        _columns(tmp_path, ["1,0", "0,1"], label_column="hot,hot")
    with pytest.raises(UserError, match="is a column of texts"):
        _columns(tmp_path, ["1,0", "0,1"], label_column="hot,sentence")


def test_a_job_sets_texts_of_class_columns_aside_and_finds_the_column_of_the_texts(tmp_path):
    rows = "".join(f"a thing of number {i},{int(i % 2 == 0)},{int(i % 3 == 0)}\n" for i in range(60))
    (tmp_path / "table.csv").write_text("words,hot,new\n" + rows)
    flags = {
        "train": str(tmp_path / "table.csv"), "dev": "", "text_column": "", "text_pair_column": "", "domain_column": "",
        "label_column": "hot,new", "multi_label": True, "label_separator": "", "regression": False,
    }  # fmt: skip
    found = own_data.complete(flags, tmp_path / "data", seed=0)
    assert (found["text_column"], found["label_column"], found["label_separator"]) == ("words", "hot,new", "")
    assert (tmp_path / "data" / "dev.jsonl").exists() or found["dev"] != ""
    with pytest.raises(UserError, match=r"no column 'old'; columns are words \('.*'\), hot \('1'\), new"):
        own_data.complete(flags | {"label_column": "hot,old"}, tmp_path / "other", seed=0)
    with pytest.raises(UserError, match="a column of 0 and 1 a class give --multi_label, too"):
        own_data.complete(flags | {"multi_label": False}, tmp_path / "other", seed=0)
