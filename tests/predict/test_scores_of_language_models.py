"""Sentences scored by a small random LSTM: the batch they are in changes nothing, other heads are refused."""

import dataclasses
import logging
import types

import jax
import numpy as np
import pytest

from codir_jax.convert import compressed
from codir_jax.convert.folder import NOISE_FILE
from codir_jax.convert.save import save_pretrained
from codir_jax.data import ngram
from codir_jax.data.tokenizer import load_tokenizer, save_tokenizer
from codir_jax.data.word_vocabulary import of_words, train_characters
from codir_jax.evaluation import next_tokens
from codir_jax.models import lstm
from codir_jax.models.heads import build_model, init_params
from codir_jax.predict import classifier, language_model, load, sentence_encoder, sentence_reader
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

TEXTS = ["the cat sat", "cat", "the cat sat on the mat " * 4, "a dog"]
WORDS = of_words(["the", "cat", "sat", "on", "mat", "a", "dog"])


def save(folder, tokenizer=WORDS, head="language_model", **sizes):
    config = lstm.FAMILY.from_scratch(len(tokenizer), 0, hidden_size=8, num_layers=1, **sizes)
    params = jax.device_get(unbox(init_params(build_model(config, head), jax.random.key(0))))
    save_pretrained(folder, config, params, head=head)
    save_tokenizer(tokenizer, folder)
    return str(folder)


def test_a_batch_of_long_sentences_has_fewer_of_them():
    assert list(sentence_reader.by_length([3, 2000, 5, 1100, 4], 4)) == [[0, 4], [2, 3], [1]]
    assert [sentence_reader.padded_rows(num, 20) for num in (1, 3, 16, 17)] == [1, 4, 16, 20]


def test_scores_depend_on_no_batch_and_on_no_part_of_the_vocabulary(tmp_path, monkeypatch):
    path = save(tmp_path)
    expected = [one.log_score for one in load.load(path).score(TEXTS)]
    monkeypatch.setattr(next_tokens, "MAX_LOGITS", 64)
    monkeypatch.setattr(sentence_reader, "MAX_TOKENS", 32)
    found = [one.log_score for one in load.load(path, batch_size=2).score(TEXTS)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_logits_of_a_long_sentence_exist_a_part_at_a_time():
    config = lstm.FAMILY.from_scratch(30_000, 0, hidden_size=8, num_layers=1)
    module = build_model(config, "language_model")
    params = unbox(init_params(module, jax.random.key(0)))
    source = types.SimpleNamespace(config=config, params=params)
    model = language_model.LanguageModel(source, WORDS, 32)
    batch = [jax.ShapeDtypeStruct((1, 4096), np.int32)] * 3
    memory = model._score.lower(params, *batch).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * next_tokens.MAX_LOGITS * 4  # all at once are 490 MB, twice


@pytest.mark.parametrize("max_logits", [1 << 25, 64])
def test_another_runtime_gives_the_same_scores_and_next_words(max_logits, tmp_path, monkeypatch):
    """It has a `step` alone: here that of JAX. With 64 logits at a time a sentence goes on from part to part."""
    monkeypatch.setattr(next_tokens, "MAX_LOGITS", max_logits)
    model = load.load(save(tmp_path))
    other = dataclasses.replace(model, runtime=types.SimpleNamespace(step=model.step))
    expected, found = ([one.log_score for one in each.score(TEXTS)] for each in (model, other))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    words, others = (each.next_words("the cat", 5) for each in (model, other))
    assert [word for word, _ in words] == [word for word, _ in others]
    np.testing.assert_allclose([p for _, p in words], [p for _, p in others], rtol=1e-5)


def test_a_text_goes_on_from_its_state(tmp_path):
    model = load.load(save(tmp_path))
    ids = np.array([[1, 2, 3, 4, 5]], np.int32)
    whole, _ = model.step(ids)
    first, state = model.step(ids[:, :2])
    second, _ = model.step(ids[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)


def test_nothing_is_said_of_a_model_type_that_transformers_has_not(tmp_path):
    """It warned of "lstm", where a program called `codir_jax.load`; the command line asks it for errors only."""
    folder, said = save(tmp_path), []
    theirs, handler = logging.getLogger("transformers"), logging.Handler()
    handler.emit, before = said.append, theirs.level
    theirs.addHandler(handler)
    theirs.setLevel(logging.WARNING)
    try:
        load.load(folder)
        assert theirs.level == logging.WARNING and not said
    finally:
        theirs.removeHandler(handler)
        theirs.setLevel(before)


def test_stablehlo_has_no_room_for_a_language_model(tmp_path):
    for loader in (load.load, load.load_scorer):
        with pytest.raises(UserError, match=r"head classification or embedding, and this model has a language_model"):
            loader(save(tmp_path), format="stablehlo")


def test_next_words_are_no_specials_and_may_begin_behind_a_space(tmp_path):
    model = load.load(save(tmp_path / "words"))
    every = [word for word, _ in model.next_words("the", 100)]
    assert sorted(every) == sorted(["the", "cat", "sat", "on", "mat", "a", "dog"])
    characters = load.load(save(tmp_path / "characters", train_characters(["the cat"], 20)))
    assert characters.next_words("the ", 3) != characters.next_words("the", 3)


@pytest.mark.parametrize("reader", [classifier.load, sentence_encoder.load])
def test_what_reads_other_heads_refuses_a_language_model(tmp_path, reader):
    with pytest.raises(UserError, match=r"have no head '(classification|embedding)'; known: language_model"):
        reader(save(tmp_path))


def test_a_compressed_sentence_scorer_keeps_its_noise_model(tmp_path):
    path = save(tmp_path / "whole", head="sentence_score", bidirectional=True, unnormalised=True, residual=True)
    noise = ngram.fit([np.array([2, 3])], vocab_size=len(WORDS), end_id=0, max_words=8, order=2, discount=0.5)
    noise.save(tmp_path / "whole" / NOISE_FILE)
    compressed.compress(path, "int8", tmp_path / "small", load_tokenizer(path))
    assert load.load_scorer(str(tmp_path / "small")).log_z(num=20)
