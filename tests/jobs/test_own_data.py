"""A user's own data in every form become files that every stage reads."""

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from codir_jax.data.data_error import DataError
from codir_jax.jobs import own_data, sources
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError

NOTHING = dict.fromkeys(
    ("train", "dev", "test", "unlabelled", "text_column", "text_pair_column", "label_column", "domain_column"), ""
) | {"regression": False, "multi_label": False, "label_separator": ""}


@pytest.fixture
def told(monkeypatch):
    said = []
    monkeypatch.setattr(console, "say", said.append)
    return said


def rows_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def prepared(folder, seed=0, **flags):
    return own_data.complete(own_data.as_files(NOTHING | flags, folder), folder, seed)


def test_a_table_of_ones_own_needs_no_flag_but_train(tmp_path, told):
    path = tmp_path / "reviews.csv"
    path.write_text("nr;review;stars\n" + "".join(f"{i};the {i}th thing is fine;{i % 2}\n" for i in range(40)))
    flags = prepared(tmp_path / "job", train=str(path))
    assert (flags["text_column"], flags["text_pair_column"], flags["label_column"]) == ("review", "", "stars")
    train, dev = rows_of(flags["train"]), rows_of(flags["dev"])
    assert len(train) == 36 and sorted(row["stars"] for row in dev) == ["0", "0", "1", "1"]
    assert sorted(int(row["nr"]) for row in train + dev) == list(range(40))
    assert any("text = column 'review', label = column 'stars'" in line for line in told)
    assert any(
        "no --dev: a tenth of each 'stars' is set aside as dev by seed 0: 4 of the 40 rows" in line for line in told
    )
    assert prepared(tmp_path / "job", train=str(path)) == flags  # stopped and called again: the same files
    assert prepared(tmp_path / "job", seed=1, train=str(path))["dev"] != flags["dev"]
    assert len(list((tmp_path / "job" / "data").iterdir())) == 4  # two draws of train and dev


def test_plain_files_stay_where_they_are(tmp_path, told):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "one two three,a\nfour five six,b\n" * 3)
    flags = prepared(tmp_path / "job", train=str(tmp_path / "train.csv"), dev=str(tmp_path / "dev.csv"))
    assert flags["train"] == str(tmp_path / "train.csv") and not (tmp_path / "job").exists()
    assert told == ["train.csv: text = column 'text', label = column 'label', separator ','"]


def test_rows_of_python_are_written_down_and_domains_are_drawn_from_alike(tmp_path, told):
    rows = [{"text": f"text {i}", "label": i % 2, "shop": "ab"[i % 4 // 2]} for i in range(80)]
    flags = prepared(tmp_path, train=rows, domain_column="shop", unlabelled=["more", "two\nlines"])
    assert sorted((row["shop"], row["label"]) for row in rows_of(flags["dev"])) == [
        (shop, label) for shop in "ab" for label in (0, 0, 1, 1)
    ]
    assert flags["unlabelled"].endswith(".txt") and Path(flags["unlabelled"]).read_text() == "more\ntwo lines\n"
    with pytest.raises(UserError, match="did you mean 'shop'"):
        prepared(tmp_path, train=rows, domain_column="shops")
    with pytest.raises(UserError, match="have no labels"):
        prepared(tmp_path, train="texts.txt")


def test_texts_that_differ_in_outer_white_space_are_of_one_split(tmp_path, told):
    texts = [f"the {i}th text" for i in range(40)]
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(texts + [f" {text} " for text in texts])]
    flags = prepared(tmp_path, train=rows)
    train, dev = ({row["text"].strip() for row in rows_of(flags[split])} for split in ("train", "dev"))
    assert len(dev) == 4 and not dev & train


def test_cells_of_several_labels_are_parted_and_the_dev_split_has_some_of_each(tmp_path, told):
    cells = ["news|sport"] * 40 + ["sport"] * 40 + ["news|rare"] * 2 + [""] * 20 + ["lone"]
    path = tmp_path / "t.tsv"
    path.write_text("text\ttags\n" + "".join(f"the {i}th text\t{cell}\n" for i, cell in enumerate(cells)))
    flags = prepared(tmp_path / "job", train=str(path), label_column="tags", multi_label=True)
    assert flags["label_separator"] == "|" and any("parted by '|'" in line for line in told)
    dev = [row["tags"] for row in rows_of(flags["dev"])]
    assert {cell: dev.count(cell) for cell in set(cells)} == {
        "news|sport": 4, "sport": 4, "news|rare": 1, "": 2, "lone": 0,
    }  # fmt: skip


def test_lists_of_labels_come_from_python(tmp_path, told):
    rows = [{"text": f"the {i}th text", "label": [["a"], ["a", "b"], [], np.array(["b"])][i % 4]} for i in range(40)]
    flags = prepared(tmp_path / "job", train=rows, multi_label=True)
    assert flags["label_separator"] == "" and len(rows_of(flags["dev"])) == 4
    assert {tuple(row["label"]) for row in rows_of(flags["train"])} == {("a",), ("a", "b"), (), ("b",)}


def test_a_report_calls_the_data_what_the_user_calls_them(tmp_path):
    (tmp_path / "news.csv").write_text("text,label\n")
    names = {str(tmp_path / "news.csv"): "news.csv", "stanfordnlp/imdb": "stanfordnlp/imdb", "": ""}
    assert {given: sources.name_of(given) for given in names} == names
    assert sources.name_of([("a text", "good")]) == "" == sources.name_of(None)


def test_bad_rows_are_told_by_their_lines_before_a_dev_split_is_drawn(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text;label\n" + "".join(f"the {i}th text;{'' if i in (3, 7) else i % 2}\n" for i in range(40)))
    with pytest.raises(DataError, match=rf"{path}:5: empty label\n.*{path}:9: empty label"):
        prepared(tmp_path / "job", train=str(path))
    path.write_text("text;label\n" + "".join(f"the {i}th text;{i}\n" for i in range(9)))
    with pytest.raises(UserError, match="too few rows to set a dev split aside; give --dev"):
        prepared(tmp_path / "job", train=str(path), label_column="label")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", '"text"\t"label"\n' + '"a good movie"\t"pos"\n' * 9, r"t\.tsv:1: .*the fields are quoted"),
        ("t.csv", "a good movie,pos\na bad one,neg\n" * 20, "the first line seems to be a row: 'a good movie'"),
        ("t.csv", "text;label;label\n" + "a good movie;pos;x\n" * 9, "the column 'label' is there twice"),
        ("t.xlsx", "PK", r"t\.xlsx: unknown format '\.xlsx'"),
    ],
)
def test_a_table_that_would_be_read_wrongly_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "job", train=str(tmp_path / name))


def test_columns_that_nobody_reads_may_hold_anything(tmp_path):
    at = datetime.datetime(2024, 1, 1)
    rows = [
        {"text": f"the {i}th text".encode(), "label": i % 2, "at": at, "share": [float("nan"), float("inf")][i % 2]}
        for i in range(40)
    ]
    flags = prepared(tmp_path, train=rows)
    assert rows_of(flags["train"])[0]["text"].startswith("the ") and rows_of(flags["dev"])[0]["at"].startswith("2024")
    with pytest.raises(UserError, match="no UTF-8"):
        prepared(tmp_path, train=[{"text": b"\xff", "label": 0}] * 4)
