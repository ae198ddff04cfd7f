"""A text as one stream of tokens: every token once, in order, from disk; what is wrong with a text is told."""

import json

import numpy as np
import pytest

from codir_jax.data import word_vocabulary
from codir_jax.data.data_error import DataError
from codir_jax.data.shards import files
from codir_jax.data.stream import batches, settings, stream
from codir_jax.processes.user_error import UserError

TEXT = "the cat sat\n\nthe  dog ran\nno line end"
WORDS = word_vocabulary.of_words(["the", "cat", "sat", "dog", "ran", "no", "line", "end"])
# <eos> 0, <unk> 1, then the words from 2 on.
IDS = [2, 3, 4, 0, 2, 5, 6, 0, 7, 8, 9, 0]


def config(tmp_path, text=TEXT, dev="the cat ran\n", **changes):
    """A data section with files of these texts (or bytes)."""
    data = settings.default_config()
    for name, content in {"train": text, "dev": dev}.items():
        path = tmp_path / f"{name}.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        data["sources" if name == "train" else "dev_sources"] = str(path)
    data.update({"cache_dir": str(tmp_path / "cache"), "batch_size": 2, "test_percent": 0.0, "num_workers": 1})
    data.update(changes)
    return data


def test_lines_are_words_and_an_end_each(tmp_path):
    found = stream.load(config(tmp_path), WORDS).splits
    assert found["train"].read(0, 12).tolist() == IDS
    assert found["train"].counts == {"lines": 3, "tokens": 12, "words": 12, "characters": 36, "unknown": 0}
    assert found["train"].read(-1, 2).tolist() == [0, 2, 3]
    kept = stream.load(config(tmp_path, keep_empty_lines=True), WORDS).splits["train"]
    assert kept.read(0, 13).tolist() == [*IDS[:4], 0, *IDS[4:]]


def test_a_line_ends_at_a_line_end_in_every_format(tmp_path):
    text = "the cat\x0csat\u2028ran\n\ndog\x85ran"
    plain = stream.load(config(tmp_path, text), WORDS).splits["train"]
    data = config(tmp_path, json.dumps({"text": text}))
    (tmp_path / "train.txt").rename(tmp_path / "train.jsonl")
    data.sources = str(tmp_path / "train.jsonl")
    rows = stream.load(data, WORDS)
    assert rows.splits["train"].counts == plain.counts and plain.counts["lines"] == 2


def test_a_source_with_a_weight_is_refused(tmp_path):
    data = config(tmp_path)
    data.sources += "@3"
    with pytest.raises(UserError, match="without weights; leave @3 out"):
        stream.load(data, WORDS)


def test_a_word_that_is_not_known_is_counted(tmp_path):
    found = stream.load(config(tmp_path, "the bird sat\n<unk> <eos>\n"), WORDS)
    assert found.splits["train"].read(0, 7).tolist() == [2, 1, 4, 0, 1, 0, 0]
    assert found.splits["train"].counts["unknown"] == 2 and found.unk_token == "<unk>"


def real(found, name, row):
    """A column of one row over all batches, padding left out."""
    return np.concatenate([batch[name][row][batch["attention_mask"][row] > 0] for batch in found])


def test_every_token_is_predicted_once_from_the_one_before(tmp_path):
    train = stream.load(config(tmp_path), WORDS).splits["train"]
    for num_rows, length in ((1, 5), (2, 4), (5, 2), (3, 100)):
        found = list(batches.windows(train, num_rows=num_rows, length=length, rows=range(num_rows + 1)))
        assert len(found) == batches.num_windows(12, num_rows, length)
        assert not any(batch["attention_mask"][num_rows].any() for batch in found)  # the row beyond them is padding
        for row in range(num_rows):
            size = batches.row_length(12, num_rows)
            expected = IDS[row * size : (row + 1) * size]
            assert real(found, "next_ids", row).tolist() == expected
            assert real(found, "input_ids", row).tolist() == [0, *IDS][row * size : row * size + len(expected)]
        assert [batch["is_start"][0] for batch in found] == [1.0] + [0.0] * (len(found) - 1)
        assert all(batch["example_mask"].tolist() == [1.0] * num_rows + [0.0] for batch in found)


def test_the_batch_of_a_step_does_not_depend_on_where_a_run_began(tmp_path):
    train = stream.load(config(tmp_path), WORDS).splits["train"]
    options = {"num_rows": 2, "length": 4, "rows": range(2)}
    whole = list(batches.windows(train, start=0, stop=7, **options))
    for start in range(7):
        again = next(batches.windows(train, start=start, stop=7, **options))
        assert all(np.array_equal(again[name], whole[start][name]) for name in again)
    assert [batch["is_start"][0] for batch in whole] == [1, 0, 1, 0, 1, 0, 1]  # two windows an epoch


def test_a_text_in_many_shards_is_one_stream(tmp_path, monkeypatch):
    lines = [f"the {word} line" for word in ("cat", "dog", "no", "end") * 50]
    text = "\n".join(lines)
    plain = stream.load(config(tmp_path, text), WORDS).splits["train"]
    monkeypatch.setattr(files, "unit_bytes", lambda total, largest: 200)
    cut = stream.load(config(tmp_path, text, cache_dir=str(tmp_path / "other")), WORDS).splits["train"]
    assert len(list((tmp_path / "other").glob("*/unit-*/tokens.bin"))) > 10
    assert np.array_equal(cut.read(-1, 800), plain.read(-1, 800)) and len(cut) == len(plain) == 800
    assert np.array_equal(cut.read(333, 611), plain.read(333, 611))


def test_a_torn_shard_of_a_finished_stream_is_made_again(tmp_path):
    data = config(tmp_path)
    stream.load(data, WORDS)
    for torn in tmp_path.glob("cache/*/unit-*/tokens.*"):
        torn.write_bytes(b"")
    assert stream.load(data, WORDS).splits["train"].read(0, 12).tolist() == IDS


def test_the_last_lines_are_held_out_where_no_files_are_named(tmp_path):
    text = "".join(f"the {word}\n" for word in ("cat", "dog", "sat", "ran", "no") * 4)
    data = config(tmp_path, text, dev_sources="", dev_percent=10.0, test_percent=5.0)
    found = stream.load(data, WORDS).splits
    assert {split: one.counts["lines"] for split, one in found.items()} == {"train": 17, "dev": 2, "test": 1}
    assert found["dev"].read(0, 6).tolist() == [2, 4, 0, 2, 6, 0]  # "sat", "ran"
    assert found["test"].read(-1, 3).tolist() == [0, 2, 7, 0]
    assert "test" not in stream.load(config(tmp_path, text), WORDS).splits


def test_the_fingerprint_is_of_the_text_and_not_of_its_path(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    prints = [stream.load(config(tmp_path / name, text), WORDS).fingerprint for name, text in
              (("a", TEXT), ("b", TEXT), ("b", TEXT.replace("ran", "sat")))]  # fmt: skip
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no text at all"),
        ("\n \n\t\n", "no text at all"),
        ("the\n", "too few for 2 rows of at least two; lower data.batch_size"),
        ("ein Hund\nund mehr\n", "every word of the train text is unknown to the tokenizer \\(4 of 4 tokens are <unk>"),
        (b"the cat\nsat\0on\n", "train.txt:2: a NUL byte"),
        ("the cat".encode("utf-16"), "train.txt:1: a NUL byte: the file is binary, or UTF-16"),
        ("the cat\ncaf\u00e9\n".encode() + "caf\u00e9\n".encode("latin-1"), "train.txt:3: broken UTF-8: byte 0xe9"),
    ],
)
def test_what_is_wrong_with_a_text_is_told(tmp_path, text, message):
    with pytest.raises((DataError, UserError), match=message):
        stream.load(config(tmp_path, text), WORDS)


def test_what_contradicts_itself_is_refused(tmp_path):
    for changes, message in (
        ({"sources": ""}, "no text: set data.sources"),
        ({"dev_sources": "", "dev_percent": 0.0}, "a run is judged on held-out text"),
        ({"dev_sources": "", "dev_percent": 99.0, "test_percent": 1.0}, "leave no text to train on"),
        ({"max_length": 0}, "data.max_length=0: expected a whole number, 1 to"),
    ):
        with pytest.raises(UserError, match=message):
            stream.load(config(tmp_path, **changes), WORDS)
    with pytest.raises(DataError, match=r"is both train and dev text"):
        stream.load(config(tmp_path, dev_sources=str(tmp_path / "train.txt")), WORDS)
    with pytest.raises(DataError, match="no such file or folder"):
        stream.load(config(tmp_path, sources=str(tmp_path / "nowhere.txt")), WORDS)
