"""The Kneser-Ney model: a re-derivation word by word, sums over all sentences, and the shares of drawn ones."""

import itertools
from collections import Counter

import numpy as np
import pytest

from codir_jax.data import ngram
from codir_jax.processes.user_error import UserError

END, SIZE = 0, 5
TEXT = [[1, 2, 3], [1, 2, 1, 2], [3, 1, 2, 3], [2], [1, 3, 3, 2], [4, 1, 2]]


def fitted(order, **given):
    given = {"vocab_size": SIZE, "end_id": END, "max_words": 4, **given}
    return ngram.fit([np.array(s) for s in TEXT], order=order, **given)


def by_definition(order, discount):
    """P(word | history) from dictionaries: recursion over orders, continuation counts below the highest."""
    grams = Counter()
    for sentence in TEXT:
        words = ["<s>"] * (order - 1) + sentence + [END]
        grams.update(tuple(words[i - order + 1 : i + 1]) for i in range(order - 1, len(words)))
    counts = {order: grams}
    for n in range(order - 1, 0, -1):
        counts[n] = Counter(gram[1:] for gram in counts[n + 1])

    def probability(history, word):
        n = len(history) + 1
        lower = probability(history[1:], word) if history else 1 / SIZE
        following = {gram[-1]: c for gram, c in counts[n].items() if gram[:-1] == history}
        if not following:
            return lower
        total = sum(following.values())
        return max(following.get(word, 0) - discount, 0) / total + discount * len(following) / total * lower

    return probability


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_are_those_of_the_definition(order):
    model, probability = fitted(order), by_definition(order, 0.75)
    sentence = [1, 2, 4, 3]
    words = ["<s>"] * (order - 1) + sentence + [END]
    expected = [np.log(probability(tuple(words[i : i + order - 1]), words[i + order - 1])) for i in range(5)]
    found = model.log_probs(np.array([sentence, [2, 0, 0, 0]]), np.array([4, 1]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    assert not found[1, 2:].any()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_q_sums_to_one_over_all_sentences_and_samples_have_its_shares(order):
    model = fitted(order, discount=0.0)
    every = [s for n in range(5) for s in itertools.product(range(1, SIZE), repeat=n)]
    lengths = np.array([len(s) for s in every])
    padded = np.array([(*s, *[END] * (4 - len(s))) for s in every])
    shares = np.exp(model.log_q(padded, lengths))
    assert shares[0] == 0.0  # the empty one
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-12)
    num = 200_000
    words, lengths = model.sample(np.random.default_rng(0).random((num, 4)))
    codes, base = words @ SIZE ** np.arange(4), padded @ SIZE ** np.arange(4)
    counts = np.bincount(codes, minlength=SIZE**4)[base]
    assert counts.sum() == num
    expected = shares * num
    deviation = (counts - expected)[1:] / np.sqrt(expected[1:])
    assert np.abs(deviation).max() < 5 and deviation.std() < 1.2
    np.testing.assert_array_equal(lengths, (words != END).sum(1))


def test_a_sample_is_a_function_of_its_own_numbers():
    model, uniforms = fitted(3), np.random.default_rng(1).random((20, 4))
    whole, _ = model.sample(uniforms)
    np.testing.assert_array_equal(np.concatenate([model.sample(uniforms[i : i + 1])[0] for i in range(20)]), whole)


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path):
    model, uniforms = fitted(3), np.random.default_rng(1).random((20, 4))
    model.save(tmp_path / "noise.npz")
    again = ngram.NGram.load(tmp_path / "noise.npz")
    words, lengths = model.sample(uniforms)
    np.testing.assert_array_equal(again.sample(uniforms)[0], words)
    np.testing.assert_array_equal(again.log_q(words, lengths), model.log_q(words, lengths))
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="n-gram"):
        ngram.NGram.load(tmp_path / "bad.npz")


def test_what_cannot_be_counted_is_refused():
    for given, word in (({"order": 9, "vocab_size": 10_000}, "order 9"), ({"order": 2, "discount": 1.5}, "1.5")):
        with pytest.raises(UserError, match=word):
            fitted(**given)
    with pytest.raises(UserError, match="no sentences"):
        ngram.fit([], vocab_size=3, end_id=0, max_words=3)
