"""A train split on disk is the one in memory, bit for bit; it is made once, and a stopped or broken one again."""

import functools
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from codir_jax.data import dataset, pipeline, separators, settings, text_stream
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import read_table
from codir_jax.data.on_disk import shard, tables
from codir_jax.data.on_disk.examples import Column, StoredExamples
from codir_jax.data.shards import equal_texts, preparation
from codir_jax.data.shards.preparation import Together
from tests.data.on_disk.conftest import WORDS

LABELS = ("bad", "good", "so so")


def _texts(count, seed=0):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(count)]
    texts[7] = f" {texts[2]} "  # equal, outer white space aside
    return texts


def _write(path, rows, names):
    """Rows as .tsv, .csv (with line ends inside fields), .jsonl, .parquet (in groups of 20 rows)."""
    if path.suffix == ".parquet":
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=20)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".csv":
        quoted = lambda value: '"' + str(value).replace('"', '""') + '"'  # noqa: E731
        lines = [",".join(names), *(",".join(map(quoted, row)) for row in rows)]
        path.write_text("\n".join(lines).replace(" and ", "\n") + "\n", "utf-8")
    else:
        path.write_text("\n".join(["\t".join(names), *("\t".join(map(str, row)) for row in rows)]) + "\n", "utf-8")


def _options(tmp_path, suffix=".tsv", kind="classes", count=300):
    options = settings.default_config()
    rng = np.random.default_rng(1)
    labels = rng.normal(size=count).tolist() if kind == "regression" else rng.choice(LABELS, count).tolist()
    columns = [_texts(count), labels, rng.choice(["b", "a", "c"], count).tolist(), rng.integers(0, 9, count).tolist()]
    names = ["sentence", "label", "domain", "weight"]
    if kind == "pairs":
        columns.append(_texts(count, 5))
        names.append("second")
        options.text_pair_column = "second"
    rows = list(zip(*columns, strict=True))
    for split, part in (("train", rows), ("dev", rows[:40])):
        _write(tmp_path / f"{split}{suffix}", part, names)
        options[f"{split}_path"] = str(tmp_path / f"{split}{suffix}")
    options.update({"name": "text_classification", "columns": "domain,weight", "is_regression": kind == "regression"})
    options.update({"cache_dir": str(tmp_path / "cache"), "max_length": 9})
    return options


def _batches(data, **changes):
    train = data.splits["train"]
    settings = {"num_buckets": 2, "max_length": 9, "batch_size": 16, "window": 3, "num_steps": 40, "compilation": 0}
    buckets = pipeline.choose_length_buckets(data.splits, **settings)
    wanted = {"batch_size": 16, "seed": 3, "window": 3, "start_step": 0, "num_steps": 40, "num_threads": 0, **changes}
    return list(pipeline.train_batches(train, length_buckets=buckets, pad_token_id=data.pad_token_id, **wanted))


def _assert_same(ours, theirs):
    assert ours.info == theirs.info
    assert len(ours.splits["train"]) == len(theirs.splits["train"])
    for left, right in zip(_batches(ours), _batches(theirs), strict=True):
        assert left.keys() == right.keys()
        for name in left:
            assert left[name].dtype == right[name].dtype, name
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".tsv", "classes"),
        (".csv", "classes"),
        (".jsonl", "classes"),
        (".parquet", "classes"),
        (".tsv", "regression"),
        (".jsonl", "pairs"),
        (".parquet", "pairs"),
    ],
)
@pytest.mark.parametrize("num_train_examples", [0, 120])
def test_batches_from_disk_are_those_from_memory(tmp_path, request, wordpiece, suffix, kind, num_train_examples):
    options = _options(tmp_path, suffix, kind)
    options.num_train_examples = num_train_examples
    if kind != "pairs" and not num_train_examples:
        more = tmp_path / ("more.parquet" if suffix == ".parquet" else "more.tsv")
        options.unlabelled_path = str(more)
        _write(more, [(t, "b", 1) for t in _texts(90, 0)], ["sentence", "domain", "weight"])
    in_memory = dataset.load(options, wordpiece, seed=4)
    request.getfixturevalue("small")
    on_disk = dataset.load(options, wordpiece, seed=4)
    assert isinstance(on_disk.splits["train"], StoredExamples) and len(on_disk.splits["train"].shards) > 5
    _assert_same(on_disk, in_memory)
    assert on_disk.fingerprint == dataset.load(options, wordpiece, seed=4).fingerprint != in_memory.fingerprint


def test_equal_texts_of_more_rows_than_are_compared_at_once_are_found(tmp_path, request, wordpiece, monkeypatch):
    """Rows are sorted by their hashes in a file of their own; it once had the name of that of the rows themselves."""
    options = _options(tmp_path)
    in_memory = dataset.load(options, wordpiece, seed=4)
    request.getfixturevalue("small")
    monkeypatch.setattr(equal_texts, "numbers", functools.partial(equal_texts.numbers, at_once=64))
    on_disk = dataset.load(options, wordpiece, seed=4)
    assert isinstance(on_disk.splits["train"], StoredExamples)
    _assert_same(on_disk, in_memory)


def test_a_csv_that_tabs_part_is_quoted_in_memory_on_disk_and_in_prediction(tmp_path, request, wordpiece):
    options = _options(tmp_path, ".csv")
    with_commas = dataset.load(options, wordpiece, seed=4)
    for split in ("train", "dev"):
        path = tmp_path / f"{split}.csv"
        path.write_text(path.read_text("utf-8").replace(",", "\t"), "utf-8")
    in_memory = dataset.load(options, wordpiece, seed=4)
    request.getfixturevalue("small")
    on_disk = dataset.load(options, wordpiece, seed=4)
    assert isinstance(on_disk.splits["train"], StoredExamples) and len(on_disk.splits["train"].shards) > 5
    _assert_same(in_memory, with_commas)
    _assert_same(on_disk, with_commas)
    predicted = list(text_stream.texts(options.train_path, "sentence"))
    assert predicted == read_table(path.with_stem("train"), ["sentence"], []).columns["sentence"]
    assert any("\n" in text for text in predicted) and not any('"' in text for text in predicted)


def test_a_byte_order_mark_before_a_quoted_header_changes_nothing(tmp_path, small, wordpiece):
    """As Excel writes it; every unit is told the names of the columns."""
    options = _options(tmp_path, ".csv")
    path = tmp_path / "train.csv"
    _, rows = path.read_text("utf-8").split("\n", 1)
    path.write_text(f'"sentence","label","domain","weight"\n{rows}', "utf-8")
    without = dataset.load(options, wordpiece, seed=4)
    path.write_text("\ufeff" + path.read_text("utf-8"), "utf-8")
    _assert_same(dataset.load(options, wordpiece, seed=4), without)


def test_a_header_whose_quote_is_left_open_is_told_of(tmp_path, small, wordpiece, monkeypatch):
    monkeypatch.setattr(separators, "MOST_CHARACTERS", 1000)
    options = _options(tmp_path, ".csv")
    path = tmp_path / "train.csv"
    path.write_text(path.read_text("utf-8").replace('"', "").replace("sentence", '"sentence', 1), "utf-8")
    with pytest.raises(DataError, match=r"train\.csv:1: broken CSV"):
        dataset.load(options, wordpiece, seed=4)


@pytest.mark.parametrize("suffix", [".txt", ".tsv"])
def test_a_set_in_memory_is_joined_by_a_large_file_of_unlabelled_texts(tmp_path, request, wordpiece, suffix):
    options = settings.default_config()
    options.update({"name": "demo", "demo_num_train": 200, "demo_num_dev": 40, "cache_dir": str(tmp_path / "cache")})
    options.update({"max_length": 9, "unlabelled_path": str(tmp_path / f"more{suffix}")})
    _write(tmp_path / f"more{suffix}", [(text,) for text in _texts(90)], ["sentence"])
    in_memory = dataset.load(options, wordpiece, seed=4)
    request.getfixturevalue("small")
    on_disk = dataset.load(options, wordpiece, seed=4)
    assert on_disk.info.num_labelled == 200 and on_disk.info.num_train == (291 if suffix == ".txt" else 290)
    _assert_same(on_disk, in_memory)


def test_worker_processes_give_the_same_rows(tmp_path, small, wordpiece, monkeypatch):
    alone = dataset.load(options := _options(tmp_path), wordpiece, seed=0)
    monkeypatch.setattr(preparation, "_num_cores", lambda: 2)
    options.cache_dir = str(tmp_path / "other")
    _assert_same(dataset.load(options, wordpiece, seed=0), alone)


def test_a_second_load_reads_no_text(tmp_path, small, wordpiece, monkeypatch):
    options = _options(tmp_path)
    first, told = dataset.load(options, wordpiece, seed=0), []
    monkeypatch.setattr(shard, "write", lambda *args, **kwargs: pytest.fail("tokenised again"))
    monkeypatch.setattr(tables, "parts", lambda *args, **kwargs: pytest.fail("cut again"))
    again = dataset.load(options, wordpiece, seed=0, together=Together(tell=told.append))
    _assert_same(again, first)
    assert again.fingerprint == first.fingerprint and not told


def test_a_preparation_that_was_stopped_goes_on(tmp_path, small, wordpiece, monkeypatch):
    options, real, done = _options(tmp_path), shard.write, []

    def stopping(unit, folder, **how):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(unit.name)
        return real(unit, folder, **how)

    monkeypatch.setattr(shard, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        dataset.load(options, wordpiece, seed=0)
    again = []
    monkeypatch.setattr(
        shard, "write", lambda unit, *rest, **how: (again.append(unit.name), real(unit, *rest, **how))[1]
    )
    stopped = dataset.load(options, wordpiece, seed=0)
    assert len(again) > 3 and not set(done) & set(again)
    options.cache_dir = str(tmp_path / "other")
    _assert_same(stopped, dataset.load(options, wordpiece, seed=0))


def test_a_torn_shard_is_made_again_and_a_changed_byte_is_told(tmp_path, small, wordpiece):
    options = _options(tmp_path)
    first = dataset.load(options, wordpiece, seed=0)
    torn = first.splits["train"].shards[1] / shard.TOKENS_FILE
    torn.write_bytes(torn.read_bytes()[:-1])
    _assert_same(dataset.load(options, wordpiece, seed=0), first)

    path = first.splits["train"].shards[2] / shard.TOKENS_FILE
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=rf"{path} is damaged at byte 0 .*remove the folder"):
        _batches(first)


def test_problems_are_told_with_file_and_line_wherever_the_file_is_cut(tmp_path, small, wordpiece):
    options = _options(tmp_path)
    path = tmp_path / "train.tsv"
    lines = path.read_text("utf-8").split("\n")
    lines[200], lines[201] = "a b\t\tb\t1", "only one column"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(DataError) as error:
        dataset.load(options, wordpiece, seed=0)
    assert f"{path}:201: empty label" in error.value.problems
    assert f"{path}:202: expected 4 columns, got 1" in error.value.problems


def test_problems_of_a_parquet_file_are_told_with_their_rows_wherever_it_is_parted(tmp_path, small, wordpiece):
    options = _options(tmp_path)
    rows = [(text, "good", "b", 1) for text in _texts(300)]
    rows[205], rows[210] = ("a b", "", "b", 1), ("", "good", "b", 1)
    options.train_path = str(tmp_path / "train.parquet")
    _write(tmp_path / "train.parquet", rows, ["sentence", "label", "domain", "weight"])
    with pytest.raises(DataError) as error:
        dataset.load(options, wordpiece, seed=0)
    assert f"{options.train_path}:206: empty label" in error.value.problems
    assert [problem for problem in error.value.problems if problem.startswith(f"{options.train_path}:211: ")]


def test_what_only_the_whole_file_shows_is_told(tmp_path, small, wordpiece):
    options = _options(tmp_path)
    options.label_names = "bad,good,so so,worse"
    with pytest.raises(DataError, match=r"train.tsv: class 'worse' has no example in train"):
        dataset.load(options, wordpiece, seed=0)
    options.label_names, options.num_train_examples = "", 1
    with pytest.raises(ValueError, match="num_train_examples=1 of 300 leaves no example of"):
        dataset.load(options, wordpiece, seed=0)
    path = tmp_path / "train.tsv"
    path.write_text(path.read_text("utf-8") + "the cat\tgood\tb\tmuch\n", "utf-8")
    options.num_train_examples = 0
    with pytest.raises(DataError, match=r"'much' in column 'weight' is not a finite number"):
        dataset.load(options, wordpiece, seed=0)


def test_processes_share_the_units_and_see_the_same_rows(tmp_path, small, wordpiece, monkeypatch):
    options, meeting, real = _options(tmp_path), threading.Barrier(2, timeout=20), shard.write
    written, found = [], {}
    monkeypatch.setattr(shard, "write", lambda unit, *a, **k: (written.append(unit.name), real(unit, *a, **k))[1])

    def process(index):
        together = Together(index, 2, lambda name: meeting.wait(), lambda line: None)
        found[index] = dataset.load(options, wordpiece, seed=0, together=together)

    threads = [threading.Thread(target=process, args=(index,)) for index in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(written) == sorted(set(written)) and len(written) > 5
    _assert_same(found[0], found[1])
    assert found[0].fingerprint == found[1].fingerprint


def test_no_file_of_rows_stays_mapped(tmp_path, small, wordpiece):
    data = dataset.load(_options(tmp_path), wordpiece, seed=0)
    _batches(data)
    assert str(tmp_path / "cache") not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize("num", [400, 900])
def test_a_column_on_disk_takes_a_mask_as_an_array_does(num, tmp_path):
    whole = np.arange(num, dtype=np.int32)
    np.save(tmp_path / "c.npy", whole)
    mask = whole % 3 == 1
    np.testing.assert_array_equal(Column(tmp_path / "c.npy")[mask], whole[mask])
