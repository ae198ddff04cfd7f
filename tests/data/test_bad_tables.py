"""Data files that somebody else wrote: what cannot be is told with file and line. No JAX."""

import pytest

from codir_jax.data import settings
from codir_jax.data.sets import text_classification
from codir_jax.processes import json_text
from codir_jax.processes.user_error import UserError

TSV = "sentence\tlabel\na b\tno\nc d\tyes\n"


def read(tmp_path, name, content, **fields):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    options = settings.default_config()
    options.update({"name": "text_classification", "train_path": str(path), "text_column": "sentence"} | fields)
    return text_classification.read(options)


def rows(label):
    return '{"sentence": "a b", "label": "no"}\n{"sentence": "c d", "label": ' + label + "}\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "sentence\tlabel\tlabel\na\tno\tyes\n", r"t\.tsv:1: the column 'label' is there twice"),
        ("t.tsv", TSV + "\u200b\u00a0\tno\n", r"t\.tsv:4: .* nothing that can be seen"),
        ("t.tsv", TSV + "\x01\tno\n", r"t\.tsv:4: .* nothing that can be seen"),
        ("t.tsv", TSV + "a\0b\tno\n", r"t\.tsv:4: a NUL character"),
        ("t.tsv", TSV + "a b\tn\0o\n", r"t\.tsv:4: a NUL character"),
        ("t.jsonl", rows("NaN"), r"t\.jsonl:2: NaN, which is no JSON number"),
        ("t.jsonl", rows("[0]"), r"t\.jsonl:2: label '\[0\]' is a list"),
        ("t.jsonl", rows('{"a": 1}'), r"t\.jsonl:2: label .* is a dict"),
        ("t.jsonl", rows('"\\ud800"'), r"t\.jsonl:2: broken encoding in the label: half a surrogate pair"),
        ("t.jsonl", rows("9" * 5000), r"t\.jsonl:2: a whole number of thousands of digits"),
        ("t.jsonl", rows("[" * 10**5), r"t\.jsonl:2: JSON that is nested too deeply"),
        ("t.jsonl", rows('1, "label": 2'), r"t\.jsonl:2: the name 'label' twice"),
    ],
)
def test_what_cannot_be_is_told_with_file_and_line(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, content)


@pytest.mark.parametrize("score", ["1e300", "nan", "-inf", "１２", "9" * 400])
def test_scores_that_float32_has_not_are_refused(tmp_path, score):
    with pytest.raises(UserError, match=r"t\.tsv:3: score"):
        read(tmp_path, "t.tsv", f"sentence\tlabel\na\t1.5\nb\t{score}\n", is_regression=True)


@pytest.mark.parametrize("number", ["1e39", "-4e38"])
def test_a_number_of_a_further_column_that_float32_has_not_is_refused(tmp_path, number):
    content = f"sentence\tlabel\tweight\na\tno\t3e38\nb\tyes\t{number}\n"
    with pytest.raises(UserError, match=r"t\.tsv:3: '.*' in column 'weight' is not finite in float32"):
        read(tmp_path, "t.tsv", content, columns="weight")


def test_good_files_are_read_as_before(tmp_path):
    assert read(tmp_path, "t.tsv", TSV).label_names == ("no", "yes")
    assert read(tmp_path, "t.jsonl", rows('"yes"')).splits["train"].labels == [0, 1]
    assert read(tmp_path, "s.tsv", "sentence\tlabel\na\t1.5\n☃\t-2\n", is_regression=True).splits["train"].labels == [
        1.5,
        -2.0,
    ]
    assert json_text.parse("[NaN]", allow_nan=True)[0] != 0
