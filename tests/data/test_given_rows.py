"""Rows in every form that a user may have them, and which column is which."""

import csv
import gzip

import numpy as np
import pytest

from codir_jax.data import dev_split, given_rows, guessed_columns, separators, text_stream
from codir_jax.data.delimited import read_table
from codir_jax.processes.user_error import UserError

TEXTS = [f"the {word} keys are on the table" for word in ("red", "old", "new", "big", "odd", "cold")] * 4


@pytest.mark.parametrize(
    ("name", "content", "separator"),
    [
        ("a.csv", "review,stars\ngood,5\n", ","),
        ("a.csv", 'review;stars\n"good; and cheap, too";5\nbad;1\n', ";"),
        ("a.csv", "review\tstars\ngood, yes\t5\n", "\t"),
        ("a.csv", "review|stars\ngood|5\n", "|"),
        ("a.csv", "review\ngood, yes\nbad\n", ","),  # one column: nothing parts all lines alike
        ("a.csv", "a;b,label\nx;y,1\n", ","),  # its own separator is asked first
        ("a.tsv", "review,stars\ngood,5\n", ","),
        ("a.tsv", "review\tstars, of 5\ngood\t5\n", "\t"),
        ("a.jsonl", '{"review": "good"}\n', ""),
    ],
)
def test_the_separator_is_that_which_parts_the_header(tmp_path, name, content, separator):
    (tmp_path / name).write_text(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert separators.separator_of(tmp_path / name) == separator
    assert separators.separator_of(tmp_path / f"{name}.gz") == separator


def test_a_file_with_another_separator_is_quoted_and_told_of_by_its_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('review;stars\n"good; and\n""cheap""";5\nbad;1\n')
    assert [row.texts for row in text_stream.rows(str(path), ("review",))] == [('good; and\n"cheap"',), ("bad",)]
    table = read_table(path, ["review", "stars"], [])
    assert table.columns == {"review": ['good; and\n"cheap"', "bad"], "stars": ["5", "1"]} and table.lines == [2, 4]
    problems = []
    path.write_text("review;stars\n" + "fine;3\n" * 30 + "so;1;2\n")
    read_table(path, ["review"], problems)
    assert problems == [f"{path}:32: expected 2 columns, got 3"]
    path.write_text("review;stars;stars\n" + "fine;3;4\n" * 30)
    read_table(path, ["stars"], problems)
    assert "the column 'stars' is there twice" in problems[1]


@pytest.mark.parametrize(
    "content", ["review,stars\rgood day,1\rbad day,0\r", 'review,stars\r\n"good\rday",1\r\n"bad\r\nday",0\r\n']
)
def test_line_ends_of_every_machine_are_those_of_training_and_of_prediction(tmp_path, content):
    path, problems = tmp_path / "a.csv", []
    path.write_bytes(content.encode())
    table = read_table(path, ["review"], problems)
    assert not problems and len(table.lines) == 2
    assert list(text_stream.texts(str(path), "review")) == table.columns["review"]


@pytest.mark.parametrize("columns", [2, 3])
def test_a_row_that_the_first_lines_cut_through_does_not_hide_the_separator(tmp_path, columns):
    path = tmp_path / "a.csv"
    fields = ['"a cat\nthat, it seems,\nsleeps"', *"xy"][:columns]
    path.write_text(";".join(["text", "label", "more"][:columns]) + "\n" + f"{';'.join(fields)}\n" * 30)
    assert separators.separator_of(path) == ";"


def test_a_long_text_does_not_hide_the_separator(tmp_path):
    csv.field_size_limit(1 << 17)  # as Python starts
    path = tmp_path / "a.csv"
    path.write_text(f"text;label\n{'word ' * 30_000};a\nshort one;b\n")
    assert separators.separator_of(path) == ";"


@pytest.mark.parametrize("given", ["train.tsv", "no/such/folder/train.csv.gz", "/no/folder", "a b"])
def test_what_is_no_file_is_told_by_the_readers_of_files(given):
    assert given_rows.is_plain_file(given)


@pytest.mark.parametrize("given", ["imdb", "stanfordnlp/imdb", "nyu-mll/glue:sst2:train"])
def test_a_name_of_the_hub_is_no_file(given):
    assert not given_rows.is_plain_file(given)


def test_rows_columns_and_pairs_of_python_are_the_same_columns():
    expected = {"sentence": ["good", "bad"], "label": [1, 0]}
    for given in (
        [{"sentence": "good", "label": 1}, {"sentence": "bad", "label": 0}],
        [("good", 1), ("bad", 0)],
        {"sentence": ["good", "bad"], "label": np.asarray([1, 0])},
        {"sentence": np.asarray(["good", "bad"]), "label": (1, 0)},
    ):
        assert given_rows.read(given, "train").splits == {"train": expected}
    assert given_rows.read(["good", "bad"], "unlabelled").splits == {"unlabelled": {"": ["good", "bad"]}}
    assert list(given_rows.read([("a", "b", "same")], "train").splits["train"]) == ["sentence1", "sentence2", "label"]
    assert given_rows.read([{"a": "x"}, {"b": float("nan")}], "train").splits["train"] == {
        "a": ["x", None],
        "b": [None] * 2,
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no rows"),
        ({"a": []}, "no rows"),
        ({"a": ["x"], "b": []}, "unlike lengths"),
        ([("a", 1), "b"], "several kinds"),
        ([("a",)], r"expected rows \(text, label\)"),
        ([("a", 1), None], "expected rows .*; got None as row 2"),
        ([("a", 1), ("a", "b", 1)], r"expected rows .*; got \('a', 'b', 1\) as row 2"),
        ([b"ab"], "expected rows .*; got b'ab' as row 1"),
        ({"text": ["a"], "label": 1}, "column 'label' is a int; expected a list"),
        ({"text": {0: "a"}, "label": {0: 1}}, "column 'text' is a dict; expected a list"),
        ({"text": "good day", "label": "positive"}, "column 'text' is a str; expected a list"),
        (7, "train is a int; expected a file"),
    ],
)
def test_what_holds_no_rows_is_refused(given, told):
    with pytest.raises(UserError, match=told):
        given_rows.read(given, "train")


def test_a_frame_of_pandas_is_its_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"review": ["good", None, "so"], "stars": [5, 1, 3], "when": pandas.to_datetime(["2020"] * 3)}
    )
    columns = given_rows.read(frame, "train").splits["train"]
    assert columns["review"] == ["good", None, "so"] and columns["stars"] == [5, 1, 3]
    assert columns["when"][0].startswith("2020-01-01")


def test_a_folder_of_datasets_gives_its_splits_and_names_its_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )

    def of(labels):
        return datasets.Dataset.from_dict({"text": [f"text {i}" for i in labels], "label": labels}, features=features)

    whole = datasets.DatasetDict({"train": of([1, 0]), "validation": of([0]), "test": of([-1])})
    whole.save_to_disk(tmp_path / "saved")
    of([1, 0]).save_to_disk(tmp_path / "alone")
    given = str(tmp_path / "saved")
    expected = {"text": ["text 1", "text 0"], "label": ["good", "bad"]}
    for one in (given, whole):
        splits = given_rows.read(one, "train").splits
        assert splits["train"] == expected and splits["dev"]["label"] == ["bad"] and splits["test"]["label"] == [None]
    assert given_rows.read(f"{given}:validation", "test").splits == {"test": {"text": ["text 0"], "label": ["bad"]}}
    assert given_rows.read(str(tmp_path / "alone"), "dev").splits == {"dev": expected}
    (tmp_path / "no_set").mkdir()
    with pytest.raises(UserError, match="none of `datasets`"):
        given_rows.read(str(tmp_path / "no_set"), "train")


def test_lists_of_classes_keep_their_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    several = datasets.Sequence(datasets.ClassLabel(names=["news", "sport"]))
    features = datasets.Features({"text": datasets.Value("string"), "labels": several})
    rows = {"text": ["a", "b", "c"], "labels": [[0, 1], [], [1]]}
    found = given_rows.read(datasets.Dataset.from_dict(rows, features=features), "train")
    assert found.splits["train"]["labels"] == [["news", "sport"], [], ["sport"]]


def test_columns_are_found_by_their_names_then_by_what_they_hold():
    def guess(columns, **given):
        return tuple(guessed_columns.guess(columns, **given))

    label = ["a", "b", "c", "a"] * 6
    ids = [str(i) for i in range(24)]
    assert guess({"sentence": TEXTS, "label": label, "text": TEXTS}) == ("sentence", "", "label")
    assert guess({"id": ids, "Review": TEXTS, "Stars": label}) == ("Review", "", "Stars")
    assert guess({"nr": ids, "was": TEXTS, "wie": label}) == ("was", "", "wie")
    assert guess({"premise": TEXTS, "hypothesis": TEXTS, "label": label}) == ("premise", "hypothesis", "label")
    assert guess({"a": TEXTS, "b": TEXTS, "k": label}, text="b") == ("b", "", "k")
    assert guess({"a": TEXTS, "label": label, "c": label}, label="c") == ("a", "", "c")


@pytest.mark.parametrize(
    ("columns", "given", "told"),
    [
        ({"a": TEXTS, "b": TEXTS, "label": ["x", "y"] * 12}, {}, r"which column holds the texts\? .*a \('the red keys"),
        (
            {"text": TEXTS, "c": ["x", "y"] * 12, "d": ["x", "y"] * 12},
            {},
            r"holds the labels\? Say --label_column=NAME",
        ),
        ({"text": TEXTS, "stars": ["1", "2"] * 12, "score": ["1", "2"] * 12}, {}, "which column holds the labels"),
        ({"text": TEXTS, "label": TEXTS}, {"label": "lable"}, "did you mean 'label'"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_asked_for(columns, given, told):
    with pytest.raises(UserError, match=told):
        guessed_columns.guess(columns, **given)


def test_a_tenth_of_each_class_is_drawn_with_equal_texts_on_one_side():
    texts = [f"text {i % 180}" for i in range(200)]  # 20 come twice
    labels = ["rare" if i % 180 < 3 else "often" for i in range(200)]
    in_dev = dev_split.draw(texts, labels, seed=0)
    assert not {t for t, d in zip(texts, in_dev, strict=True) if d} & {
        t for t, d in zip(texts, in_dev, strict=True) if not d
    }
    of_dev = {text: label for text, label, d in zip(texts, labels, in_dev, strict=True) if d}
    assert sorted(of_dev.values()).count("often") == 18 and sorted(of_dev.values()).count("rare") == 1
    assert (in_dev == dev_split.draw(texts, labels, seed=0)).all() and (
        in_dev != dev_split.draw(texts, labels, 1)
    ).any()
    assert dev_split.draw(["a", "b"], ["x", "y"], 0).tolist() == [False, False]  # a class of one text is trained on
