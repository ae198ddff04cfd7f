"""One's own files: what is read, and that each kind of bad input is told with file and line."""

import json

import pytest

from codir_jax.data import dataset, settings, table_labels
from codir_jax.data.data_error import DataError
from codir_jax.data.tokenizer_training import train_wordpiece
from codir_jax.processes.user_error import UserError

GOOD = "sentence\tlabel\nthe cat\tgood\na dog\tbad\n"


@pytest.fixture
def read(tmp_path):
    """Returns read(files, **config fields): files are name -> content; {name}_path fields take file names."""

    def read_files(files, **fields):
        config = settings.default_config()
        config.name = "text_classification"
        for name, content in files.items():
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            split = name.split(".")[0]
            if f"{split}_path" in config:
                config[f"{split}_path"] = str(path)
        config.update(fields)
        return dataset.read(config)

    return read_files


def problems_of(read, files, **fields):
    with pytest.raises(DataError) as caught:
        read(files, **fields)
    return [problem.rpartition("/")[2] for problem in caught.value.problems]


def test_tsv_is_unquoted_and_splits_lines_at_newlines_only(read):
    text = 'he said "no\u2028yes\x85 and\rso'
    raw, names, is_regression, metrics, _ = read({"train.tsv": f"sentence\tlabel\n{text}\tb\nit's \"\ta\n"})
    assert raw["train"].texts_a == [text, "it's \""] and raw["train"].labels == [1, 0]
    assert names == ("a", "b") and not is_regression and metrics[0] == "accuracy"


def test_csv_is_quoted_and_told_by_the_first_line_of_a_row(read):
    content = 'label,sentence\na,"one, ""two""\nthree"\nb,four\n'
    assert read({"train.csv": content})[0]["train"].texts_a == ['one, "two"\nthree', "four"]
    told = problems_of(read, {"train.csv": content + 'b,"x\ny"\nb,\n'})
    assert told == ["train.csv:7: empty text in column 'sentence'"]


def test_json_lines_take_numbers_and_booleans_as_class_names(read):
    rows = [{"sentence": "x", "label": 10}, {"sentence": "y", "label": 9}]
    assert read({"train.jsonl": "\n".join(map(json.dumps, rows))})[1] == ("9", "10")
    rows = [{"sentence": "x", "label": True}, {"sentence": "y", "label": False}]
    assert read({"train.jsonl": "\n".join(map(json.dumps, rows))})[1] == ("false", "true")


def test_windows_files_with_byte_order_mark_read_like_others(read):
    raw, names, *_ = read({"train.tsv": b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()})
    assert raw["train"].texts_a == ["the cat", "a dog"] and names == ("bad", "good")


def test_pairs_named_classes_and_an_unlabelled_test_file(read):
    train = "p\th\tgold\na\tb\tyes\nc\td\tno\ne\tf\tmaybe\n"
    raw, names, _, metrics, _ = read(
        {"train.tsv": train, "dev.tsv": train, "test.tsv": "p\th\na\tb\n"},
        text_column="p",
        text_pair_column="h",
        label_column="gold",
        label_names="yes, maybe, no",
    )
    assert names == ("yes", "maybe", "no") and raw["train"].labels == [0, 2, 1] and metrics == ("accuracy", "macro_f1")
    assert raw["test"].texts_b == ["b"] and raw["test"].labels is None


def test_test_labels_are_read_where_they_are(read):
    raw, *_ = read({"train.tsv": GOOD, "test.tsv": "sentence\tlabel\nx\tgood\ny\t\n"})
    assert raw["test"].labels == [1, None]


def test_a_regression_has_float_targets(read):
    raw, names, is_regression, metrics, _ = read(
        {"train.tsv": "sentence\tlabel\na\t1.5\nb\t-2e1\n"}, is_regression=True
    )
    assert raw["train"].labels == [1.5, -20.0] and names == () and is_regression and metrics == ("pearson", "spearman")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("unlabelled.txt", "one\n\ntwo\n"),
        ("unlabelled.tsv", "id\tsentence\n1\tone\n2\ttwo\n"),
        ("unlabelled.csv", 'sentence\n"one"\ntwo\n'),
        ("unlabelled.jsonl", '{"sentence": "one"}\n{"sentence": "two"}\n'),
    ],
)
def test_unlabelled_text_joins_train(read, tmp_path, name, content):
    raw, *_ = read({"train.tsv": GOOD, name: content})
    assert raw["unlabelled"].texts_a == ["one", "two"]
    config = settings.default_config()
    config.name = "text_classification"
    config.update(train_path=str(tmp_path / "train.tsv"), unlabelled_path=str(tmp_path / name))
    data = dataset.load(config, train_wordpiece(["the cat", "one two"], 60), seed=0)
    assert data.splits["train"].is_labelled.tolist() == [True, True, False, False]
    assert data.info.num_labelled == 2 and data.info.label_names == ("bad", "good")


@pytest.mark.parametrize(
    ("files", "fields", "expected"),
    [
        ({"train.tsv": "sentance\tlabel\na\tb\n"}, {}, "train.tsv:1: no column 'sentence' "
         "(data.text_column, --text_column names it); columns are sentance, label; did you mean 'sentance'?"),
        ({"train.tsv": GOOD + "only one\n"}, {}, "train.tsv:4: expected 2 columns, got 1"),
        ({"train.tsv": GOOD + "a\tb\tc\n"}, {}, "train.tsv:4: expected 2 columns, got 3"),
        ({"train.tsv": "sentence\tlabel\n\nx\ta\ny\tb\n"}, {}, "train.tsv:2: empty line"),
        ({"train.tsv": GOOD + "  \tgood\n"}, {}, "train.tsv:4: empty text in column 'sentence'"),
        ({"train.tsv": GOOD + "x\t\n"}, {}, "train.tsv:4: empty label"),
        ({"train.tsv": GOOD.encode() + b"caf\xe9\tgood\n"}, {}, "train.tsv:4: broken UTF-8: byte 0xe9 at position 3; "
         "save it as UTF-8"),
        ({"train.tsv": GOOD + "x\tgod\n"}, {"label_names": "good,bad"}, "train.tsv:4: unknown label 'god'; "
         "known: good, bad; did you mean 'good'?"),
        ({"train.tsv": GOOD, "dev.tsv": "sentence\tlabel\nx\tneutral\n"}, {}, "dev.tsv:2: unknown label 'neutral'; "
         "known: bad, good"),
        ({"train.tsv": GOOD}, {"label_names": "good,bad,fair"}, "train.tsv: class 'fair' has no example in train"),
        ({"train.tsv": "sentence\tlabel\nx\ta\n"}, {}, "train.tsv: only one class, 'a'; expected at least two"),
        ({"train.tsv": "sentence\tlabel\nx\t1\ny\tnan\n"}, {"is_regression": True}, "train.tsv:3: score 'nan' is not "
         "finite"),
        ({"train.tsv": "sentence\tlabel\nx\t1\ny\t-inf\n"}, {"is_regression": True}, "train.tsv:3: score '-inf' is "
         "not finite"),
        ({"train.tsv": "sentence\tlabel\nx\t1\ny\thigh\n"}, {"is_regression": True}, "train.tsv:3: score 'high' is not "
         "a number"),
        ({"train.jsonl": '{"sentence": "x", "label": NaN}\n{"sentence": "x", "label": 1}'}, {"is_regression": True},
         "train.jsonl:1: NaN, which is no JSON number; expected one object a line"),
        ({"train.tsv": b""}, {}, "train.tsv: the file is empty"),
        ({"train.tsv": "sentence\tlabel\n"}, {}, "train.tsv: the file has no rows"),
        ({"train.tsv": GOOD, "unlabelled.tsv": "text\nx\n"}, {},
         "unlabelled.tsv:1: no column 'sentence'; columns are text"),
        ({"train.tsv": GOOD, "unlabelled.txt": b"ok\n\xff\n"}, {}, "unlabelled.txt:2: broken UTF-8: byte 0xff at "
         "position 0; save it as UTF-8"),
        ({"train.txt": GOOD}, {}, "train.txt: unknown format '.txt'; expected .tsv, .csv, .jsonl or .parquet"),
        ({"train.csv": "sentence,label\nx,a\ny,b\n\"z,a\n"}, {}, "train.csv:4: broken CSV (unexpected end of data); "
         "the rest of the file was not read"),
        ({"train.jsonl": '{"sentence": "x", "label": "a"}\n{"sentence": "y", "label": "b"}\n{oops\n'}, {},
         "train.jsonl:3: broken JSON (Expecting property name enclosed in double quotes at column 2); expected one "
         "object a line"),
        ({"train.jsonl": '{"sentence": "x", "label": "a"}\n{"sentence": 3, "label": "b"}\n'}, {},
         "train.jsonl:2: expected a text in column 'sentence', got 3"),
        ({"train.jsonl": '{"sentence": "x", "label": "a"}\n{"sentence": "y", "label": "b"}\n{"sentence": "z"}\n'}, {},
         "train.jsonl:3: no column 'label' (data.label_column, --label_column names it); columns are sentence"),
        ({"train.tsv": "sentence\tlabel\tlabel\nx\ta\tb\n"}, {}, "train.tsv:1: the column 'label' is there twice; give "
         "each a name of its own"),
        ({"train.tsv": GOOD + "a\0b\tgood\n"}, {}, "train.tsv:4: a NUL character: the file is binary, or UTF-16; save "
         "it as UTF-8"),
        ({"train.tsv": GOOD + "\u200b\u00a0\tgood\n"}, {}, "train.tsv:4: text in column 'sentence' holds nothing that "
         "can be seen: '\\u200b\\xa0'"),
        ({"train.tsv": GOOD.replace("\t", ",") + "a b,c,good\n"}, {}, "train.tsv:1: no column 'sentence' "
         "(data.text_column, --text_column names it); columns are sentence,label; the separator seems to be commas "
         "(.csv): save it with that of its ending, tabs or commas"),
        ({"train.tsv": '"sentence"\t"label"\n"x"\t"a"\n'}, {}, 'train.tsv:1: "sentence", "label": '
         "the fields are quoted, and a .tsv has no quotes: save it without, or name it .csv if commas part it"),
        ({"train.tsv": "sentence\tlabel\nx\t1\ny\t1e39\n"}, {"is_regression": True}, "train.tsv:3: score '1e39' is not "
         "finite in float32"),
        ({"train.tsv": "sentence\tlabel\nx\t1\ny\t\uff11\n"}, {"is_regression": True}, "train.tsv:3: score '\uff11' is "
         "not a number"),
        ({"train.jsonl": '{"sentence": "x", "label": "a"}\n{"sentence": "y", "label": [1]}\n'}, {}, "train.jsonl:2: "
         "label '[1]' is a list; expected a name (for several labels a text: data.is_multi_label=True, --multi_label)"),
        ({"train.jsonl": '{"sentence": "x", "label": "0"}\n{"sentence": "y", "label": 1}\n'}, {}, "train.jsonl:2: "
         "label 1 is of type int, those before of type str; expected one type of labels"),
        ({"train.jsonl": '{"sentence": "x", "label": "a"}\n{"sentence": "y", "label": "\\ud800"}\n'}, {},
         "train.jsonl:2: broken encoding in the label: half a surrogate pair"),
        ({"train.tsv": "sentence\tlabel\nx\t1\ny\t1.0\n"}, {"is_regression": True}, "train.tsv: all scores are 1.0; "
         "nothing to learn"),
        ({"train.jsonl": "[" * 100_000}, {}, "train.jsonl:1: JSON that is nested too deeply; expected one "
         "object a line"),
        ({"train.jsonl": '{"sentence": "x", "label": ' + "7" * 5000 + "}"}, {}, "train.jsonl:1: a whole number of "
         "thousands of digits; expected one object a line"),
        ({"train.tsv": "sentence\tlabel\nx\t0.5\ny\t1.5\nz\t2\n"}, {}, "train.tsv: the labels are numbers such as 0.5: "
         "for scores set data.is_regression=True (--regression), for classes data.label_names to their names"),
        ({"train.tsv": "sentence\tlabel\n" + "".join(f"x\tc{i}\n" for i in range(30))}, {}, "train.tsv: 30 classes in "
         "30 rows; is data.label_column (--label_column) the column of the labels, or are they scores (--regression)? "
         "To keep them set data.label_names to all their names"),
    ],
)  # fmt: skip
def test_bad_input_is_told_with_file_and_line(read, files, fields, expected):
    assert problems_of(read, files, **fields)[0] == expected


def test_a_file_that_is_not_there_is_told_with_the_nearest_name(read, tmp_path):
    told = problems_of(read, {"train.tsv": GOOD}, dev_path=str(tmp_path / "trian.tsv"))
    assert told == ["trian.tsv: there is no such file; did you mean 'train.tsv'?"]
    assert "nor its folder" in problems_of(read, {}, train_path=str(tmp_path / "no" / "x.tsv"))[0]


def test_problems_of_all_files_come_at_once_up_to_ten_and_how_many_more(read):
    bad = GOOD + "".join(f"text {i}\n" for i in range(9))
    with pytest.raises(ValueError, match="14 problems") as caught:
        read({"train.tsv": bad, "dev.tsv": GOOD + "\tgood\n" * 4, "test.tsv": "text\nx\n"})
    assert str(caught.value).count("\n  ") == 11 and "... and 4 more" in str(caught.value)
    assert "train.tsv:12:" in str(caught.value)


def test_pairs_refuse_single_unlabelled_texts(read):
    told = problems_of(read, {"train.tsv": "sentence\tb\tlabel\nx\ty\t0\nz\tw\t1\n", "unlabelled.txt": "x\n"},
                       text_pair_column="b")  # fmt: skip
    assert "must be pairs too" in told[0]


def test_without_a_train_file_classes_must_be_named(read):
    with pytest.raises(ValueError, match="classes are unknown"):
        read({"dev.tsv": GOOD})
    assert read({"dev.tsv": GOOD}, label_names="good,bad")[0]["dev"].labels == [0, 1]
    with pytest.raises(ValueError, match="no files"):
        read({})


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("text_column", "", "data.text_column is empty"),
        ("label_column", " ", "data.label_column is empty"),
        ("text_pair_column", "sentence", "both 'sentence'"),
        ("label_column", "sentence", "is a column of texts"),
    ],
)
def test_columns_that_cannot_be_what_they_are_named_for(read, field, value, told):
    with pytest.raises(UserError, match=told):
        read({"train.tsv": GOOD}, **{field: value})


def test_texts_of_dev_that_are_in_train_are_counted(read, capsys):
    read({"train.tsv": GOOD, "dev.tsv": GOOD + "a new one\tgood\n"})
    assert "note: 2 of 3 texts of " in (told := capsys.readouterr().out) and "first in line 2, 3" in told
    read({"train.tsv": GOOD, "dev.tsv": "sentence\tlabel\na new one\tgood\n"})
    assert "also in train" not in capsys.readouterr().out


def test_classes_of_one_text_are_told_with_their_lines(read, capsys):
    read({"train.tsv": GOOD + "a bird\tgood\n", "dev.tsv": GOOD})
    told = capsys.readouterr().out
    assert "1 of 2 classes have one text only: 'bad' (line 3);" in told and "'good'" not in told


def test_names_with_commas_are_listed_as_json(read):
    files = {"dev.tsv": "sentence\tlabel\nthe cat\tAlbany, NY\na dog\tRome\n"}
    listed = table_labels.list_names(["Albany, NY", "Rome"])
    assert read(files, label_names=listed).label_names == ("Albany, NY", "Rome")
    assert table_labels.list_names(["a", "b"]) == "a,b" and table_labels.listed_names("a, b") == ("a", "b")
    for broken in ('["a"', '["a", 1]', '["a", ""]'):
        with pytest.raises(UserError, match=r"data\.label_names"):
            table_labels.listed_names(broken)
