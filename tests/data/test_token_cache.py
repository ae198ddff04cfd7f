"""Kept tokens: read back alike, never under another fingerprint, made again where damaged."""

import numpy as np
import pytest

from codir_jax.data import token_cache, tokenizer_training
from codir_jax.data import tokenizer as tokenizer_lib

TEXTS = ["The cat sat on the mat.", "A dog ran!", "the cats run", "dogs sat; the dog sat"] * 3


@pytest.fixture(scope="module")
def wordpiece():
    return tokenizer_training.train_wordpiece(TEXTS, 80)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(token_cache, "LEAST_TEXTS", len(TEXTS))
    return tmp_path / "codir_jax" / "tokens"


@pytest.fixture
def calls(monkeypatch):
    """Texts of each call of the tokenizer."""
    seen, real = [], tokenizer_lib.encode
    monkeypatch.setattr(tokenizer_lib, "encode", lambda *arguments: (seen.append(arguments[1]), real(*arguments))[1])
    return seen


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype


@pytest.mark.parametrize("texts_b", (None, TEXTS[::-1]))
def test_what_was_tokenised_once_is_read_back_alike(wordpiece, folder, calls, texts_b):
    made = token_cache.encode(wordpiece, TEXTS, texts_b, 7)
    assert_same(token_cache.encode(wordpiece, TEXTS, texts_b, 7), made)
    assert len(calls) == 1 and len(list(folder.iterdir())) == 1
    assert_same(tokenizer_lib.encode(wordpiece, TEXTS, texts_b, 7), made)


def test_another_text_pair_length_or_tokenizer_is_another_fingerprint(wordpiece):
    other = tokenizer_training.train_wordpiece(TEXTS[:1], 80)
    cases = [(wordpiece, TEXTS, None, 7), (wordpiece, TEXTS[1:], None, 7), (wordpiece, TEXTS, TEXTS, 7)]
    cases += [(wordpiece, TEXTS, None, 8), (other, TEXTS, None, 7)]
    assert len({token_cache.fingerprint(*case) for case in cases}) == len(cases)


@pytest.mark.parametrize(("name", "value"), [("truncation_side", "left"), ("model_input_names", ["input_ids"])])
def test_settings_outside_the_tokenizers_file_are_in_the_fingerprint(wordpiece, monkeypatch, name, value):
    before = token_cache.fingerprint(wordpiece, TEXTS, TEXTS, 7)
    monkeypatch.setattr(wordpiece, name, value)
    assert token_cache.fingerprint(wordpiece, TEXTS, TEXTS, 7) != before


def test_a_damaged_file_is_made_again(wordpiece, folder, calls):
    made = token_cache.encode(wordpiece, TEXTS, None, 7)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(made[0].tobytes()) + 5] ^= 1
    for number, damaged in enumerate((bytes(flipped), whole[: len(whole) // 2], b""), 2):
        path.write_bytes(damaged)
        assert_same(token_cache.encode(wordpiece, TEXTS, None, 7), made)
        assert len(calls) == number and path.read_bytes() == whole


def test_few_texts_are_not_kept_and_a_folder_that_cannot_be_written_is_no_error(wordpiece, folder, calls):
    token_cache.encode(wordpiece, TEXTS[1:], None, 7)
    assert not folder.exists()
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    for _ in range(2):
        token_cache.encode(wordpiece, TEXTS, None, 7)
    assert [len(texts) for texts in calls] == [len(TEXTS) - 1, len(TEXTS), len(TEXTS)]
