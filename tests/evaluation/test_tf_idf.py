"""The linear model of counted words: on what words can tell, and on what they cannot."""

import numpy as np
import pytest

from codir_jax.evaluation import tf_idf


def test_words_that_name_the_class_are_learned_and_noise_is_not():
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(300)]
    labels = np.arange(300) % 3
    told = [(f"{text} class{label}",) for text, label in zip(words, labels, strict=True)]
    model = tf_idf.linear_model(told[:200], labels[:200], False)
    assert np.mean(model.predict(told[200:]) == labels[200:]) == 1.0
    noise = tf_idf.linear_model([(text,) for text in words[:200]], labels[:200], False)
    assert np.mean(noise.predict([(text,) for text in words[200:]]) == labels[200:]) < 0.6
    num_words = len(model.counted.vocabulary_)
    assert model.num_weights == 3 * num_words + 3 + num_words and model.num_bytes > 4 * model.num_weights


def test_a_pair_is_told_by_the_words_that_both_have():
    """The words of either text by itself say nothing of the target, which is how many of four both share."""
    rng = np.random.default_rng(1)
    vocabulary = [f"w{number}" for number in range(40)]
    pairs, targets = [], []
    for _ in range(600):
        drawn, shared = rng.choice(vocabulary, 8, replace=False), int(rng.integers(0, 5))
        pairs.append((" ".join(drawn[:4]), " ".join([*drawn[:shared], *drawn[4 : 8 - shared]])))
        targets.append(float(shared))
    model = tf_idf.linear_model(pairs[:500], targets[:500], True)
    assert np.corrcoef(model.predict(pairs[500:]), targets[500:])[0, 1] > 0.9


def test_texts_without_a_word_are_counted_by_their_signs():
    texts = [("😀 !",), ("😡 ?",)] * 4
    assert tf_idf.linear_model(texts, [1, 0] * 4, False).predict(texts[:2]).tolist() == [1, 0]
    np.testing.assert_allclose(tf_idf.cosines(["?", "?"], ["?", "!"], ["?", "!"]), [1.0, 0.0])
    assert np.isfinite(tf_idf.topics(["", " "])).all()


def test_a_class_of_two_rows_needs_no_folds():
    texts = [("good",), ("fine",), ("bad",), ("poor",), ("bad bad",)]
    model = tf_idf.linear_model(texts, [1, 1, 0, 0, 0], False)
    assert model.predict([("good",), ("bad",)]).tolist() == [1, 0]


def test_of_many_rows_some_are_drawn(monkeypatch):
    monkeypatch.setattr(tf_idf, "MAX_TRAIN_ROWS", 30)
    texts = [("good",) if number % 2 else ("bad",) for number in range(100)]
    model = tf_idf.linear_model(texts, [number % 2 for number in range(100)], False)
    assert model.num_rows == 30 and model.predict([("good",)])[0] == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_texts_without_a_known_word_get_an_answer(seed):
    model = tf_idf.linear_model([("a b",), ("c d",)] * 4, [1.0, 3.0] * 4, True, seed)
    assert model.predict([("z",)])[0] == pytest.approx(2.0, abs=0.2)
