"""A table that is read in parts is refused, and told of, in the words of one that is read whole. No JAX."""

import json

import pytest

from codir_jax.data import dataset, settings
from codir_jax.data.data_error import DataError
from codir_jax.processes import console

COUNT = 100  # rows, in several units


def _tsv(label, text="the cat {} sees", count=COUNT, last=""):
    """A table whose row i has the label `label(i)`."""
    return "sentence\tlabel\n" + "".join(f"{text.format(i)}\t{label(i)}\n" for i in range(count)) + last


def _jsonl(label):
    return "".join(f'{{"sentence": "a dog {i} hears", "label": {label(i)}}}\n' for i in range(COUNT))


def _two(i):
    return ("bad", "good")[i % 2]


def _load(folder, wordpiece, train, *, suffix=".tsv", dev="", **fields):
    for split, text in (("train", train), ("dev", dev or _tsv(_two, "a bird {} hears", 10))):
        name = f"{split}{suffix if split == 'train' else '.tsv'}"
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        fields.setdefault(f"{split}_path", str(folder / name))
    options = settings.default_config()
    options.update({"name": "text_classification", "cache_dir": str(folder / "cache"), "max_length": 9} | fields)
    return dataset.load(options, wordpiece, seed=0)


ODD = f"{COUNT + 2}: "
SCORES = {"is_regression": True, "dev": "sentence\tlabel\na\t1\nb\t2\n"}


@pytest.mark.parametrize("way", ["in memory", "on disk"])
@pytest.mark.parametrize(
    ("train", "fields", "told"),
    [
        (_tsv(lambda i: "good"), {}, "only one class, 'good'"),
        (_tsv(lambda i: i / 8), {}, r"labels are numbers such as 0\.0: for scores set .*--regression"),
        (_tsv(lambda i: f"c{i}"), {}, "100 classes in 100 rows; is data.label_column"),
        (_tsv(_two, last="a cat\t \n"), {}, f"{ODD}empty label"),
        (_tsv(_two, last="a cat\tugly\n"), {"label_names": "bad,good"}, f"{ODD}unknown label 'ugly'"),
        (_tsv(_two), {"label_names": "bad,good,ugly"}, "class 'ugly' has no example in train"),
        (_tsv(_two, last=f"a cat\t{'x' * 10_001}\n"), {}, f"{ODD}label of 10,001 characters"),
        (_tsv(_two, last="\u200b\u200d\tbad\n"), {}, f"{ODD}.*nothing that can be seen"),
        (_tsv(_two, last="\x01\x02\tbad\n"), {}, f"{ODD}.*nothing that can be seen"),
        (_tsv(_two, last="a\0b\tbad\n"), {}, f"{ODD}a NUL character"),
        (_tsv(_two, last=f"{'a ' * 500_001}\tbad\n"), {}, f"{ODD}text in column .* of 1,000,002 characters"),
        (_tsv(_two, last="a cat\n"), {}, f"{ODD}expected 2 columns, got 1"),
        (_tsv(lambda i: 1.5), SCORES, "all scores are 1.5; nothing to learn"),
        (_tsv(lambda i: i, last="a cat\t1e39\n"), SCORES, f"{ODD}score '1e39' is not finite in float32"),
        (_jsonl(lambda i: i % 2 if i < 98 else "NaN"), {"suffix": ".jsonl"}, ":99: NaN, which is no JSON number"),
        (_jsonl(lambda i: i % 2 if i < 98 else [0]), {"suffix": ".jsonl"}, r":99: label '\[0\]' is a list"),
        (_jsonl(lambda i: '"\\ud800"' if i == 98 else 1), {"suffix": ".jsonl"}, ":99: broken encoding in the label"),
        (_jsonl(lambda i: i % 2 if i < 50 else json.dumps(str(i % 2))), {"suffix": ".jsonl"}, "of (the )?types? .*int"),
    ],
)
def test_what_cannot_be_is_refused_alike(tmp_path, request, wordpiece, train, fields, told, way):
    if way == "on disk":
        request.getfixturevalue("small")
    with pytest.raises(DataError, match=told):
        _load(tmp_path, wordpiece, train, **fields)


@pytest.mark.parametrize("way", ["in memory", "on disk"])
def test_lines_of_unlabelled_text_are_looked_at_alike(tmp_path, request, wordpiece, way):
    if way == "on disk":
        request.getfixturevalue("small")
    (tmp_path / "more.txt").write_text("the cat sees\n" * 200 + "\n\u200b\n", "utf-8")
    with pytest.raises(DataError, match=r"more\.txt:202: text holds nothing that can be seen"):
        _load(tmp_path, wordpiece, _tsv(_two), unlabelled_path=str(tmp_path / "more.txt"))


def test_what_dev_shares_with_train_and_that_it_has_one_class_are_told_alike(tmp_path, request, wordpiece, capsys):
    rows = ["a bird sees", "the cat 3 sees", " the cat 7 sees ", "a cat", "the cat 99 sees", "the cat 98 sees"]
    dev = "sentence\tlabel\n" + "".join(f"{row}\tgood\n" for row in rows)
    path = tmp_path / "dev.tsv"
    told = [
        f"note: {path}: all 6 rows have the class 'good', and always to answer that is right on all of them; a score "
        "on them tells nothing",
        f"note: 4 of 6 texts of {path} are also in train, first in line 3, 4, 6: scores on them are too good",
    ]
    changes = {"dev": dev, "num_train_examples": 60, "unlabelled_path": str(tmp_path / "more.txt")}
    (tmp_path / "more.txt").write_text("a cat\n" * 5)  # of no label: nothing is given away
    for _ in range(2):  # as the stages of a job read it, and a note is told once
        _load(tmp_path, wordpiece, _tsv(_two), **changes)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")] == told
    request.getfixturevalue("small")
    for _ in range(2):  # made, then taken from the cache
        console.note.cache_clear()
        _load(tmp_path, wordpiece, _tsv(_two), **changes)
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")] == told


def test_that_dev_has_one_score_is_told(tmp_path, wordpiece, capsys):
    _load(tmp_path, wordpiece, _tsv(lambda i: i), is_regression=True, dev="sentence\tlabel\na cat\t1.5\n")
    assert f"note: {tmp_path}/dev.tsv: the one row has the score 1.5, and with it corr" in capsys.readouterr().out


def test_classes_that_look_like_numbers_and_are_none_are_ordered_as_texts(tmp_path, wordpiece):
    names = ("--5", "1", "9" * 5000, "²")
    loaded = _load(tmp_path, wordpiece, _tsv(lambda i: names[i % 4]), dev=_tsv(lambda i: names[i % 4], count=8))
    assert loaded.info.label_names == tuple(sorted(names))


@pytest.mark.parametrize("fields", [{}, {"text_pair_column": "other"}, {"is_regression": True}])
def test_rows_of_a_stream_are_drawn_alike_from_all_of_it(tmp_path, small, fields, monkeypatch):
    monkeypatch.setattr(dataset, "_MAX_DRAWN_ROWS", 40)
    numbers = fields.get("is_regression")
    name = (lambda i: i) if numbers else (lambda i: "bad" if i < COUNT / 2 else "good")  # sorted, as files often are
    text = "sentence\tother\tlabel\n" + "".join(f"the cat {i} sees\tit {i}\t{name(i)}\n" for i in range(COUNT))
    (tmp_path / "train.tsv").write_text(text)
    (tmp_path / "dev.tsv").write_text(text)
    options = settings.default_config()
    paths = {f"{split}_path": str(tmp_path / f"{split}.tsv") for split in ("train", "dev")}
    options.update({"name": "text_classification"} | paths | fields)
    rows = dataset.read_rows(options, () if numbers else ("bad", "good"), seed=1)
    train = rows["train"]
    places = [int(text.split()[2]) for text in train.texts_a]
    assert len(train) == 40 == len(set(places)) and sum(place < COUNT / 2 for place in places) in range(12, 29)
    assert train.labels == (places if numbers else [int(place >= COUNT / 2) for place in places])
    assert train.texts_b == ([f"it {place}" for place in places] if "text_pair_column" in fields else None)
    assert len(rows["dev"]) == COUNT
