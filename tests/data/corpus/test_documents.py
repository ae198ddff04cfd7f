"""What is wrong with a text is told with file and line, before a chunk of it is trained on."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from codir_jax.data.corpus import settings, sources
from codir_jax.data.data_error import DataError
from codir_jax.data.shards import files
from tests.data.corpus.conftest import packed, prose, rows_of

GOOD = json.dumps({"text": "the old sea"}).encode() + b"\n"
BAD = {
    "nul.txt": (b"fine\nbroken \0 here\n", r"nul\.txt:2: a NUL byte: the file is binary"),
    "latin.txt": (b"fine\nfine\ncaf\xe9\n", r"latin\.txt:3: broken UTF-8: byte 0xe9 at position 3"),
    "json.jsonl": (GOOD + b"{oops\n", r"json\.jsonl:2: no JSON"),
    "list.jsonl": (b"[1]\n", r"list\.jsonl:1: expected a JSON object with 'text', got list"),
    "field.jsonl": (GOOD + b'\n{"txt": "a"}\n', r"field\.jsonl:3: no field 'text' .*did you mean 'txt'"),
    "empty.jsonl": (b'{"text": " "}\n', r"empty\.jsonl:1: empty text in 'text'"),
    "number.jsonl": (b'{"text": 3}\n', r"number\.jsonl:1: expected a text in 'text', got int"),
    "half.jsonl": (b'{"text": "\\ud800"}\n', r"half\.jsonl:1: broken encoding in 'text'"),
    "utf.jsonl": (b'{"text": "\xe9"}\n', r"utf\.jsonl:1: broken UTF-8"),
    "torn.txt.gz": (gzip.compress(b"fine text " * 50)[:-9], r"torn\.txt\.gz: the gzip file is cut short"),
    "no.txt.gz": (b"not gzip", r"no\.txt\.gz: is named \.gz and is not gzip-compressed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_with_file_and_line(name, write, load, wordpiece):
    content, message = BAD[name]
    write({"good.txt": prose(20), name: content})
    with pytest.raises(DataError, match=message):
        load(wordpiece)


def test_a_line_is_counted_from_the_start_of_a_file_that_is_cut(write, load, wordpiece, small_units):
    lines = prose(400).encode().split(b"\n")
    lines[-3] = b"caf\xe9"
    write({"large.txt": b"\n".join(lines)})
    with pytest.raises(DataError, match=rf"large\.txt:{len(lines) - 2}: broken UTF-8"):
        load(wordpiece)


def test_ten_problems_are_told_together_and_a_mended_corpus_goes_through(write, load, wordpiece):
    write({"good.txt": prose(20), "also.txt": prose(20, seed=1), "bad.txt": b"fine\n" + b"\xe9\n" * 30})
    with pytest.raises(DataError) as caught:
        load(wordpiece)
    assert sorted(int(problem.split(":")[1]) for problem in caught.value.problems) == list(range(2, 12))
    write({"bad.txt": prose(20, seed=2)})
    assert sum(load(wordpiece)[0].info.num_documents.values()) == 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("/dev/null", "/dev/null: no regular file"),
        ("texts/*.md", "no file matches"),
        ("empty", r"the folder holds no \.txt"),
        ("texts/a.csv", r"unknown format '\.csv'"),
        ("texts/b.txt@heavy", "expected a weight above 0 behind @, got 'heavy'"),
        ("texts/b.txt@0", "expected a weight above 0"),
        ("texts/b.txt,texts/*.txt", "is in both"),
        ("tfds:no_such_set_at_all", "TFDS has no such data set ready"),
    ],
)
def test_sources_that_find_nothing_are_told(entries, message, write, tmp_path, monkeypatch):
    write({"a.csv": "x", "b.txt": "text"})
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        sources.find(entries, str(tmp_path / "tfds"))


def test_weights_and_an_at_sign_in_a_name(write, tmp_path):
    write({"a@2.txt": "text", "b.txt": "text"})
    first, second = sources.find(f"{tmp_path}/texts/a@2.txt, {tmp_path}/texts/b.txt@2.5")
    assert (first.weight, second.weight) == (1.0, 2.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": " "}, "no text: set data.sources"),
        ({"document_boundary": "page"}, "document_boundary='page': expected one of file, blank_line"),
        ({"batch_size": 6, "chunks_per_document": 4}, "not divisible by data.chunks_per_document 4; use 4 or 8"),
        ({"mask_rate": 15.0}, "mask_rate=15.0: expected a finite number, above 0 and below 1"),
        ({"dev_percent": 0.0}, "a run is judged on held-out documents"),
        ({"max_length": 4}, "max_length=4: expected a whole number, 8 to"),
        ({"max_dev_chunks": 0}, "data.max_dev_chunks=0: expected a whole number, 1 to"),
        ({"num_workers": -1}, "data.num_workers=-1: expected a whole number, 0 to"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(changes, message):
    config = settings.default_config()
    config.sources = "books"
    settings.check(config)
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        settings.check(config)


def test_a_long_line_is_read_in_blocks_cut_between_words_or_characters(write, load, byte_level, monkeypatch):
    monkeypatch.setattr("codir_jax.data.corpus.documents._BLOCK_BYTES", 50)
    texts = {"a.txt": prose(200).replace("\n", " "), "b.txt": "ξ" * 500, "c.txt": "x " + "é𝄞" * 200}
    write(texts)
    corpus, _ = load(byte_level)
    rows = {int(d): [] for chunks in corpus.splits.values() for d in chunks.document_ids}
    for chunks in corpus.splits.values():
        for document, row in zip(chunks.document_ids, rows_of(chunks), strict=True):
            rows[int(document)] += row[1:-1]
    assert rows[0] == [i for _, row in packed(byte_level, [texts["a.txt"]], 16) for i in row[1:-1]]
    # No character is torn: without the spaces between blocks the text is whole.
    assert byte_level.decode(rows[1]).replace(" ", "") == texts["b.txt"]
    assert byte_level.decode(rows[2]).replace(" ", "") == texts["c.txt"].replace(" ", "")


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A prepared text set "small_texts" with an empty article, in array_record, made without TensorFlow."""
    import tensorflow_datasets as tfds

    class SmallTexts(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "year": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(8)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"text": prose(20 + i, seed=i) if i != 3 else "", "year": i}

    folder = tmp_path_factory.mktemp("tfds")
    SmallTexts(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def test_a_prepared_tfds_set_is_found_where_nothing_defines_it_and_a_registered_one_without_tensorflow(tfds_folder):
    """As on another day, in a process that knows the folder only."""
    code = (
        "import sys; from codir_jax.data.corpus import sources\n"
        "(found,) = sources.find('tfds:small_texts:text', sys.argv[1])\n"
        "print(found.tfds.num_examples, 'tensorflow' in sys.modules)\n"
        "import tensorflow_datasets as tfds\n"
        "tfds.core.DatasetBuilder.download_and_prepare = lambda self: print(self.builder_config.name)\n"
        "sources.tfds_builder('c4/en', sys.argv[1])\n"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tfds_folder)], capture_output=True, text=True, check=False)
    assert told.stdout.split() == ["8", "False"] and told.stderr.split()[-1] == "en", told.stderr


def test_a_tfds_set_is_a_source_by_name_and_field(tfds_folder, config, load, wordpiece, monkeypatch):
    monkeypatch.setattr(files, "_MIN_UNIT_BYTES", 100)
    config.sources, config.tfds_data_dir = "tfds:small_texts:text@2", str(tfds_folder)
    (source,) = sources.find(config.sources, config.tfds_data_dir)
    assert (source.weight, source.tfds.num_examples, source.tfds.name) == (2.0, 8, "small_texts:1.0.0")
    assert len(sources.units([source])) > 2
    corpus, _ = load(wordpiece)
    assert sum(corpus.info.num_documents.values()) == 7
    found = sorted(row for chunks in corpus.splits.values() for row in rows_of(chunks))
    texts = [prose(20 + i, seed=i) for i in range(8) if i != 3]
    assert found == sorted(row for _, row in packed(wordpiece, texts, 16))
    config.sources, config.dev_sources = "tfds:small_texts:text:train[:75%]", "tfds:small_texts:text:train[75%:]"
    apart, _ = load(wordpiece)
    assert apart.info.num_documents == {"train": 5, "dev": 2}
    config.sources = "tfds:small_texts:text"
    with pytest.raises(DataError, match=r"in data\.sources and in data\.dev_sources"):
        load(wordpiece)
    config.dev_sources = ""
    config.sources = "tfds:small_texts:body"
    with pytest.raises(DataError, match="no feature 'body'; features are text, year"):
        load(wordpiece)
    config.sources = "tfds:small_texts:year"
    with pytest.raises(DataError, match=r"train\[0\]: expected a text in 'year'"):
        load(wordpiece)
