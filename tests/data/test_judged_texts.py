"""Files that judge a sentence encoder: which rows are one set, which column is which."""

import json

import pytest

from codir_jax.data.data_error import DataError
from codir_jax.data.judged_texts import LabelledTexts, ScoredPairs, labelled_texts, scored_pairs
from codir_jax.processes.user_error import UserError

NAMES = ("sentence1", "sentence2", "score")
ROWS = ScoredPairs(["a", "b"], ["c", "d"], [5.0, 0.5])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", "score\tsentence1\tsentence2\n5.0\ta\tc\n0.5\tb\td\n"),
        ("x.tsv", 'id\tsentence1\tscore\tsentence2\tmore\n1\ta\t5\tc\t"\n2\tb\t0.5\td\t\n'),
        ("x.csv", "one,two,how alike\na,c,5\nb,d,0.5\n"),
        ("x.csv", "5,a,c\n0.5,b,d\n"),
        ("x.jsonl", "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in zip(*ROWS, strict=True))),
    ],
)  # fmt: skip
def test_pairs_are_found_by_name_or_by_what_holds_numbers(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert scored_pairs(str(tmp_path / name), {}) == {"x": ROWS}


@pytest.mark.parametrize(
    "content",
    [
        "label\ttext\nx y\ta\nz\tb\nx y\tc\n",
        "id\tsentence\tlabel\n1\ta\tx y\n2\tb\tz\n3\tc\tx y\n",
        "a\tx y\nb\tz\nc\tx y\n",
        "what\tkind\na\tx y\nb\tz\nc\tx y\n",
    ],
)
def test_labels_are_found_by_name_or_as_the_column_of_fewer_values(content, tmp_path):
    (tmp_path / "x.tsv").write_text(content)
    assert labelled_texts(str(tmp_path / "x.tsv")) == {"x": LabelledTexts(["a", "b", "c"], ["x y", "z", "x y"])}


def test_a_year_is_one_set_and_a_split_is_named_after_its_folder(tmp_path):
    for name in ("2012.A.tsv", "2012.B.tsv", "2013.A.tsv", "dev.tsv"):
        (tmp_path / name).write_text("score\tsentence1\tsentence2\n5.0\ta\tc\n0.5\tb\td\n")
    found = scored_pairs(str(tmp_path), {})
    assert {name: len(rows.scores) for name, rows in found.items()} == {"2012": 4, "2013": 2, f"{tmp_path.name}/dev": 2}
    assert scored_pairs(f"{tmp_path}/2012.*,{tmp_path}/2013.A.tsv,named", {"named": lambda: ROWS})["named"] is ROWS


def test_the_only_row_of_a_file_without_a_header_counts(tmp_path):
    (tmp_path / "x.one.tsv").write_text("a\tc\t5.0\n")
    (tmp_path / "x.two.tsv").write_text("b\td\t0.5\n")
    assert scored_pairs(str(tmp_path), {}) == {"x": ROWS}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("score\tsentence1\tsentence2\nhigh\ta\tc\n1\tb\td\n", "x.tsv:2: score 'high' is not a number"),
        ("score\tsentence1\tsentence2\n1\ta\t\n2\tb\td\n", "x.tsv:2: empty text in column 'sentence2'"),
        ("a\tb\tc\nd\te\tf\n", "holds numbers only"),
        ("a\tb\nd\t1\n", "columns are a, b; expected sentence1, sentence2, score"),
        ("score\tsentence1\tsentence2\n1\ta\tb\n1\tb\td\n", "all 2 scores are the same"),
    ],
)
def test_bad_pairs_are_told_with_their_line(content, message, tmp_path):
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        scored_pairs(str(tmp_path / "x.tsv"), {})


def test_bad_labels_are_told(tmp_path):
    (tmp_path / "x.tsv").write_text("label\ttext\nb\ta\n\tc\n")
    with pytest.raises(DataError, match=r"x.tsv:3: empty label"):
        labelled_texts(str(tmp_path / "x.tsv"))
    (tmp_path / "x.tsv").write_text("label\ttext\nb\ta\nb\tc\n")
    with pytest.raises(DataError, match="1 labels of 2 texts"):
        labelled_texts(str(tmp_path / "x.tsv"))
    with pytest.raises(UserError, match=r"--sts nowhere: no such file"):
        scored_pairs("nowhere", {})
