"""From files to rows: packing, splits, the cache, resumption, several processes."""

import gzip
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from codir_jax.data.corpus import corpus as corpus_lib
from codir_jax.data.corpus import demo_text, shards
from codir_jax.data.data_error import DataError
from codir_jax.data.shards import folder, preparation
from codir_jax.data.shards.preparation import Together
from tests.data.corpus.conftest import packed, prose, rows_of

BOOKS = {f"book{i}.txt": prose(40 + 30 * i, seed=i) for i in range(5)}


def both(corpus):
    """(document, ids) of all rows of both splits, in document order."""
    rows = []
    for chunks in corpus.splits.values():
        rows += zip(chunks.document_ids.tolist(), rows_of(chunks), strict=True)
    return sorted(rows, key=lambda row: row[0])  # stable: rows of a document keep their order


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level"])
@pytest.mark.parametrize("block", [64, 1 << 16])
def test_chunks_are_those_of_whole_documents_tokenised_at_once(kind, block, write, load, request, monkeypatch):
    monkeypatch.setattr("codir_jax.data.corpus.documents._BLOCK_BYTES", block)
    monkeypatch.setattr("codir_jax.data.corpus.shards._CHARACTERS_PER_CALL", 200)
    tokenizer = request.getfixturevalue(kind)
    write(BOOKS)
    corpus, _ = load(tokenizer)
    assert both(corpus) == packed(tokenizer, BOOKS.values(), 16)
    for chunks in corpus.splits.values():
        assert [len(row) for row in rows_of(chunks)] == chunks.lengths.tolist()
    info = corpus.info
    assert info.num_documents == {"train": 4, "dev": 1} and info.num_train == len(corpus.splits["train"])
    text = sum(len(row) - 2 for _, row in both(corpus))
    assert sum(info.num_tokens.values()) == text and list(info.sources.values()) == [info.num_train]


def whole(rows):
    """Document -> its ids without specials, wherever it was cut."""
    bodies = {}
    for document, row in rows:
        bodies.setdefault(document, []).extend(row[1:-1])
    return bodies


def test_a_large_file_cut_into_ranges_is_one_document(write, load, wordpiece, small_units):
    write({"large.txt": prose(600), "small.txt": prose(20, seed=1), "third.txt": prose(20, seed=2)})
    corpus, told = load(wordpiece)
    assert int(told[0].split(" parts")[0].split()[-1]) > 5
    assert sum(corpus.info.num_documents.values()) == 3
    texts = [prose(600), prose(20, seed=1), prose(20, seed=2)]
    assert whole(both(corpus)) == whole(packed(wordpiece, texts, 16))


@pytest.mark.parametrize("ranges", [False, True])
def test_blank_lines_end_documents_wherever_a_large_file_is_cut(ranges, write, load, config, wordpiece, monkeypatch):
    if ranges:
        monkeypatch.setattr("codir_jax.data.shards.files._MIN_UNIT_BYTES", 150)
    texts = [" ".join(prose(30, seed=i).split()).replace(". ", ".\n") for i in range(12)]
    write({"all.txt": "\n \n" + "\n\n\t\n".join(texts) + "\n"})
    config.document_boundary = "blank_line"
    corpus, _ = load(wordpiece)
    assert sum(corpus.info.num_documents.values()) == len(texts)
    assert whole(both(corpus)) == whole(packed(wordpiece, texts, 16))


def test_gz_and_jsonl_hold_the_same_text(write, load, config, wordpiece, tmp_path):
    texts = list(BOOKS.values())
    lines = "".join(json.dumps({"body": text, "id": i}) + "\n" for i, text in enumerate(texts))
    write({"a/all.jsonl": lines, "b/all.jsonl.gz": gzip.compress(lines.encode())})
    write({f"c/{name}.gz": gzip.compress(text.encode()) for name, text in BOOKS.items()})
    write({f"d/{name}": b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() for name, text in BOOKS.items()})
    config.text_field = "body"
    fingerprints = set()
    for name in "abcd":
        config.sources = str(tmp_path / "texts" / name)
        corpus, _ = load(wordpiece)
        assert both(corpus) == packed(wordpiece, texts, 16)
        fingerprints.add(corpus.fingerprint)
    assert len(fingerprints) == 1  # of the content, not of files


def test_special_tokens_written_in_a_text_are_text(write, load, wordpiece):
    write({"a.txt": "the [SEP] old [MASK] sea", "b.txt": "the old sea"})
    corpus, _ = load(wordpiece)
    for _, row in both(corpus):
        assert not {wordpiece.sep_token_id, wordpiece.mask_token_id, wordpiece.cls_token_id} & set(row[1:-1])


def test_text_ids_are_the_smallest_row_with_equal_tokens(write, load, wordpiece):
    write({"a.txt": "the old sea", "b.txt": "never tomorrow", "c.txt": "the  OLD\nsea", "d.txt": "the old sea"})
    corpus, _ = load(wordpiece)
    rows, text_ids = rows_of(corpus.splits["train"]), corpus.splits["train"].text_ids.tolist()
    assert text_ids == [rows.index(row) for row in rows] and len(set(text_ids)) < len(rows)


def test_dev_sources_are_held_out_whole(write, load, config, wordpiece, tmp_path):
    write({"train/a.txt": prose(50), "dev/b.txt": prose(30, seed=1)})
    config.sources, config.dev_sources = str(tmp_path / "texts/train"), str(tmp_path / "texts/dev/*.txt")
    corpus, _ = load(wordpiece)
    for split, text in (("train", prose(50)), ("dev", prose(30, seed=1))):
        assert rows_of(corpus.splits[split]) == [row for _, row in packed(wordpiece, [text], 16)]
    config.dev_sources = str(tmp_path / "texts")
    with pytest.raises(DataError, match=r"a\.txt: in data\.sources and in data\.dev_sources"):
        load(wordpiece)


def test_a_second_start_tokenises_nothing(write, load, config, wordpiece, monkeypatch, tmp_path):
    write(BOOKS)
    first, told = load(wordpiece)
    assert told
    monkeypatch.setattr(shards, "write", None)
    again, told = load(wordpiece)
    assert not told and again.fingerprint == first.fingerprint and both(again) == both(first)
    assert not list(tmp_path.glob("cache/*/*.lock")) and not list(tmp_path.glob("cache/*/*.tmp"))
    config.sources += "@3"  # a weight is no reason to tokenise again
    assert load(wordpiece)[1] == []
    monkeypatch.undo()
    config.max_length = 12
    assert load(wordpiece)[0].fingerprint != first.fingerprint


def test_a_torn_shard_of_a_finished_corpus_is_made_again(write, load, wordpiece, small_units, tmp_path):
    write(BOOKS)
    first, _ = load(wordpiece)
    torn = sorted(tmp_path.glob("cache/*/unit-*"))[1] / shards.TOKENS_FILE
    torn.write_bytes(b"")
    again, _ = load(wordpiece)
    assert again.fingerprint == first.fingerprint
    assert whole(both(again)) == whole(packed(wordpiece, BOOKS.values(), 16))


def test_a_preparation_that_was_stopped_goes_on(write, load, wordpiece, small_units, monkeypatch, tmp_path):
    write(BOOKS)
    real, done = shards.write, []

    def stopping(unit, packing, folder):
        if len(done) == 2:
            (folder / f"{unit.name}.left.tmp").mkdir()  # what a kill leaves
            raise KeyboardInterrupt
        done.append(unit.name)
        return real(unit, packing, folder)

    monkeypatch.setattr(shards, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        load(wordpiece)
    # A shard that lost its bytes, as after a power cut, is made again.
    torn = next(tmp_path.glob(f"cache/*/{done[0]}")) / shards.TOKENS_FILE
    torn.write_bytes(b"")
    again = []
    monkeypatch.setattr(shards, "write", lambda unit, *rest: (again.append(unit.name), real(unit, *rest))[1])
    corpus, _ = load(wordpiece)
    assert done[0] in again and done[1] not in again
    assert whole(both(corpus)) == whole(packed(wordpiece, BOOKS.values(), 16))
    assert not list(tmp_path.glob("cache/*/*.tmp"))


def test_processes_share_the_units_and_see_the_same_corpus(write, config, wordpiece, small_units, monkeypatch):
    write(BOOKS)
    meeting = threading.Barrier(2, timeout=10)
    written, found = {}, {}
    real = shards.write
    monkeypatch.setattr(
        shards, "write", lambda unit, *rest: (written.setdefault(unit.index, []).append(1), real(unit, *rest))[1]
    )

    def process(index):
        found[index] = corpus_lib.load(
            config, wordpiece, Together(index, 2, lambda name: meeting.wait(), lambda line: None)
        )

    threads = [threading.Thread(target=process, args=(index,)) for index in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(written) > 2 and all(len(times) == 1 for times in written.values())
    assert found[0].fingerprint == found[1].fingerprint and both(found[0]) == both(found[1])


def test_processes_end_with_the_same_sentence(write, config, wordpiece, small_units):
    write({**BOOKS, "zz.txt": b"caf\xe9"})
    meeting, told = threading.Barrier(2, timeout=10), {}

    def process(index):
        try:
            corpus_lib.load(config, wordpiece, Together(index, 2, lambda name: meeting.wait(), lambda line: None))
        except DataError as error:
            told[index] = str(error)

    threads = [threading.Thread(target=process, args=(index,)) for index in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert told[0] == told[1] and "zz.txt:1: broken UTF-8" in told[0]


def test_two_runs_on_one_machine_never_do_the_same_unit(write, config, wordpiece, small_units, monkeypatch):
    write(BOOKS)
    real, written = shards.write, []
    monkeypatch.setattr(shards, "write", lambda unit, *rest: (written.append(unit.index), real(unit, *rest))[1])
    found = {}

    def run(index):
        found[index] = corpus_lib.load(config, wordpiece, Together(tell=lambda line: None))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(written) == sorted(set(written)) and len(written) > 2
    assert both(found[0]) == both(found[1])


def test_a_unit_that_another_run_holds_is_waited_for(write, load, wordpiece, small_units, monkeypatch):
    write(BOOKS)
    real, held = preparation._try_lock, []

    def busy_at_first(path):
        if path.name == "unit-00000.lock" and len(held) < 3:
            held.append(path)
            return None
        return real(path)

    monkeypatch.setattr(preparation, "_try_lock", busy_at_first)
    corpus, told = load(wordpiece)
    assert any("another run tokenises the last 1 parts" in line for line in told)
    assert whole(both(corpus)) == whole(packed(wordpiece, BOOKS.values(), 16))


def test_cleaning_leaves_the_splits_that_another_run_writes(tmp_path):
    for name in ("unit-00001.ab.tmp", "dev-5.cd.tmp", "unit-00001"):
        (tmp_path / name).mkdir()
    (tmp_path / "unit-00001.lock").touch()
    folder.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev-5.cd.tmp", "unit-00001"]


def test_worker_processes_give_the_same_corpus(write, load, config, wordpiece, small_units, tmp_path):
    write(BOOKS)
    alone, _ = load(wordpiece)
    config.num_workers, config.cache_dir = 2, str(tmp_path / "other")
    pooled, _ = load(wordpiece)
    assert pooled.fingerprint == alone.fingerprint and both(pooled) == both(alone)


def test_a_worker_imports_nothing_heavy():
    code = (
        "import sys\nimport codir_jax.data.corpus.shards, codir_jax.data.shards.preparation\n"
        "print({'jax', 'transformers', 'tensorflow_datasets', 'grain', 'ml_collections'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == "set()\n"


def test_rows_are_read_from_several_threads(write, load, wordpiece, small_units):
    write(BOOKS)
    chunks = load(wordpiece)[0].splits["train"]
    expected, wrong = rows_of(chunks), []

    def read(seed):
        rows = np.random.default_rng(seed).integers(len(chunks), size=40)
        for _ in range(5):
            if [tokens.tolist() for tokens in chunks.tokens(rows)] != [expected[row] for row in rows]:
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_a_corpus_that_cannot_be_is_told(write, load, config, wordpiece, tmp_path):
    write({"only.txt": prose(30)})
    with pytest.raises(ValueError, match="one document, so none can be held out"):
        load(wordpiece)
    (tmp_path / "texts/only.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="no text at all"):
        load(wordpiece)


def test_a_tokenizer_without_a_mask_token_is_refused(write, load, byte_level):
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=byte_level.backend_tokenizer, pad_token="<pad>", cls_token="<s>")
    write(BOOKS)
    with pytest.raises(ValueError, match="this one has no mask, sep token"):
        load(bare)


def test_every_held_out_document_is_in_the_fingerprint_of_a_large_corpus(write, load, config, wordpiece):
    # As text, numpy abbreviates an array of more than 1,000 numbers to its outer three: here they are the same.
    write({"all.txt": "sea\n\n" * 2400})
    config.document_boundary = "blank_line"
    corpora = []
    for count in (1100, 1101):
        config.dev_percent = 100 * count / 2400
        corpora.append(load(wordpiece)[0])
        assert corpora[-1].info.num_documents["dev"] == count
    outer = [np.unique(corpus.splits["dev"].document_ids)[[0, 1, 2, -3, -2, -1]].tolist() for corpus in corpora]
    assert outer[0] == outer[1] and corpora[0].fingerprint != corpora[1].fingerprint


def test_only_one_embedded_source_brings_a_tokenizer():
    trained = demo_text.fresh_tokenizer(" demo:24@2")
    assert trained.get_vocab() == demo_text.fresh_tokenizer("demo:24").get_vocab()
    several = ("books/*.txt", "demo:24,books.txt", "demo:24,demo:30", "demo:all", "")
    assert [demo_text.fresh_tokenizer(text) for text in several] == [None] * len(several)
