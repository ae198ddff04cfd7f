"""Tables that are gzip-compressed read like those that are not; damaged ones are told by file, before anything else."""

import gzip
import math
import tracemalloc

import pytest

from codir_jax.data import compressed, dataset, judged_texts, settings, text_stream
from codir_jax.data.corpus import sources, vocabulary
from codir_jax.data.data_error import DataError
from codir_jax.data.on_disk import tables
from codir_jax.data.sets import contract
from codir_jax.processes.user_error import UserError

PAIRS = "sentence1\tsentence2\tlabel\n" + "".join(
    f"text {i} | one\ttext {i} two\t{'entailment' if i % 2 else 'contradiction'}\n" for i in range(40)
)
CLASSES = "sentence,label\n" + "".join(f'"a, text\n{i}",{i % 2}\n' for i in range(20))
SCORED = "sentence1\tsentence2\tscore\n" + "".join(f"a {i}\tb {i}\t{i / 4}\n" for i in range(9))


def _options(name, **changes):
    options = settings.default_config()
    options.update({"name": name, **changes})
    return options


def _both(folder, name, text):
    """(path, path of the same .gz)."""
    plain, packed = folder / name, folder / f"{name}.gz"
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return str(plain), str(packed)


def test_train_dev_unlabelled_and_judged_tables_may_be_compressed(tmp_path):
    plain, packed = _both(tmp_path, "nli.tsv", PAIRS)
    read = lambda path: contract.find("sentence_pairs").read(_options("sentence_pairs", train_path=path))  # noqa: E731
    assert read(packed).splits == read(plain).splits

    plain, packed = _both(tmp_path, "train.csv", CLASSES)
    more = _both(tmp_path, "more.txt", "one\ntwo\n\nthree\n")
    found = [
        dataset.read(_options("text_classification", train_path=path, dev_path=path, unlabelled_path=unlabelled))
        for path, unlabelled in ((plain, more[0]), (packed, more[1]))
    ]
    assert found[0].splits == found[1].splits
    assert len(found[1].splits["unlabelled"]) == 3

    plain, packed = _both(tmp_path, "sts.tsv", SCORED)
    assert judged_texts.scored_pairs(packed, {}) == judged_texts.scored_pairs(plain, {})
    assert list(text_stream.texts(more[1], "")) == ["one", "two", "", "three"]


def test_a_large_compressed_table_is_one_unit_with_the_rows_of_the_plain_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tables.files, "_MIN_UNIT_BYTES", 64)
    for name, text, columns in (("a.tsv", PAIRS, ("sentence1", "sentence2")), ("b.csv", CLASSES, ("sentence",))):
        plain, packed = (tables.parts(type(tmp_path)(path), texts=columns) for path in _both(tmp_path, name, text))
        assert len(plain) > 1 and len(packed) == 1
        problems = []
        rows = [part(problems) for _, part in plain]
        whole = packed[0][1](problems)
        assert not problems
        assert whole.texts_a == [text for part in rows for text in part.texts_a]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("cut.tsv.gz", gzip.compress(PAIRS.encode())[:-12], r"cut\.tsv\.gz: the gzip file is cut short"),
        ("lies.tsv.gz", PAIRS.encode(), r"lies\.tsv\.gz: is named \.gz and is not gzip-compressed; rename it"),
        ("torn.tsv.gz", gzip.compress(PAIRS.encode())[:40] + b"\xff" * 90, r"torn\.tsv\.gz: the gzip file is damaged"),
        ("hides.tsv", gzip.compress(PAIRS.encode()), r"hides\.tsv: .*gzip-compressed: name it hides\.tsv\.gz"),
        ("table.xls.gz", gzip.compress(PAIRS.encode()), r"table\.xls\.gz: unknown format '\.xls'"),
    ],
)
def test_a_compressed_file_that_lies_or_is_cut_is_told(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content)
    options = _options("sentence_pairs", train_path=str(path), sentence_columns="sentence1,sentence2")
    with pytest.raises(DataError, match=told):
        contract.find("sentence_pairs").read(options)
    with pytest.raises(UserError, match=told.replace(": ", ".*")):
        judged_texts.scored_pairs(str(path), {})
    if ".xls" not in name:
        with pytest.raises(DataError, match=told.replace(": ", ":.*")):
            text_stream.check(str(path))
            list(text_stream.texts(str(path), "sentence1"))


BOMBS = {"zeros": bytes, "one line": lambda count: b"sentence\tlabel\n" + b"the cat sees\t1\n" * (count // 15)}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_unpacks_to_very_much_is_refused_while_it_is_read(tmp_path, monkeypatch, bomb):
    monkeypatch.setattr(compressed, "_FREE_BYTES", 1 << 16)
    for name in ("t.tsv", "t.txt"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(BOMBS[bomb](1 << 20)))
    table, texts = (str(tmp_path / f"{name}.gz") for name in ("t.tsv", "t.txt"))
    options = _options("text_classification", train_path=table, dev_path=table)
    for read in (
        lambda: dataset.read(options),
        lambda: dataset.read(_options("demo", unlabelled_path=texts)),
        lambda: judged_texts.scored_pairs(table, {}),
        lambda: list(text_stream.texts(texts, "")),
        lambda: list(vocabulary._texts(sources.units(sources.find(texts)), "text", None, math.inf)),
    ):
        with pytest.raises(UserError, match=r"t\.t(sv|xt)\.gz.*unpacks to more than 100 times its size"):
            read()


def test_no_more_is_unpacked_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "_FREE_BYTES", 1 << 20)
    (tmp_path / "t.gz").write_bytes(gzip.compress(bytes(64 << 20)))
    most = compressed.most_bytes(tmp_path / "t.gz")
    assert most == 100 * (tmp_path / "t.gz").stat().st_size
    tracemalloc.start()
    with pytest.raises(compressed.TooMuchError), compressed.open_bytes(tmp_path / "t.gz") as file:
        file.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * most < 64 << 20


def test_what_is_in_proportion_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "_FREE_BYTES", 0)
    content = "".join(f"text {i} of the cat that sees {i * i}\n" for i in range(20_000)).encode()
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(content))
    with compressed.open_bytes(tmp_path / "t.txt.gz") as file:
        assert file.readline() == b"text 0 of the cat that sees 0\n" and file.read() == content.partition(b"\n")[2]
