"""Lists to choose from: what is replaced, by what, and that the draws are of the index alone."""

import numpy as np
import pytest

from codir_jax.data.sentences import candidates, sentences

FREQUENCIES = np.array([0.0, 0.5, 0.3, 0.2, 0.0])  # 0 and 4 are marks
WORDS = np.array([[1, 2, 3, 1, 0, 0], [3, 0, 0, 0, 0, 0], [4, 1, 2, 3, 2, 1]], np.int32)
LENGTHS = np.array([4, 1, 6])


def test_a_copy_has_the_length_of_its_sentence_and_another_word_somewhere():
    found = candidates.copies(WORDS, LENGTHS, FREQUENCIES, np.arange(3))
    assert found.shape == (3, candidates.NUM_COPIES, 6) and found.dtype == np.int32
    differs = found != WORDS[:, None]
    inside = np.arange(6) < LENGTHS[:, None]
    assert differs.any(-1).all() and not (differs & ~inside[:, None]).any()
    assert np.isin(found[differs], [1, 2, 3]).all()  # no mark is drawn, though one may be replaced


def test_words_are_drawn_by_their_frequency_without_the_word_itself():
    words = np.repeat(np.array([[1, 2, 3]], np.int32), 20_000, 0)
    found = candidates.copies(words, np.full(len(words), 3), FREQUENCIES, np.arange(len(words)))
    for place, word in enumerate((1, 2, 3)):
        drawn = found[..., place].ravel()
        drawn = drawn[drawn != word]
        expected = np.where(np.arange(5) == word, 0.0, FREQUENCIES)
        np.testing.assert_allclose(np.bincount(drawn, minlength=5) / len(drawn), expected / expected.sum(), atol=0.01)
    # A word is replaced with probability SHARE, and one in any case where none was drawn.
    at_least_one = candidates.SHARE * 3 + (1 - candidates.SHARE) ** 3
    assert (found != words[:, None]).sum() / found[..., 0].size == pytest.approx(at_least_one, rel=0.02)


def test_a_draw_that_rounds_to_the_word_itself_is_its_neighbour(monkeypatch):
    class Highest:
        def random(self, shape):
            return np.full(shape, np.nextafter(1.0, 0.0))

    monkeypatch.setattr(candidates.np.random, "default_rng", lambda _: Highest())
    words = np.full((1, 3), 9, np.int32)  # the shares of ten words add up to a little less than 1
    assert (candidates.copies(words, np.array([3]), np.full(10, 0.1), np.arange(1)) != words).all()


def test_the_draws_of_a_sentence_depend_on_its_place_in_the_split_only():
    whole = candidates.copies(WORDS, LENGTHS, FREQUENCIES, np.arange(3))
    np.testing.assert_array_equal(candidates.copies(WORDS[2:], LENGTHS[2:], FREQUENCIES, np.array([2])), whole[2:])
    assert candidates.spread(10, 4).tolist() == [0, 2, 5, 7] and candidates.spread(3, 500).tolist() == [0, 1, 2]


def test_batches_of_lists_are_the_same_on_any_number_of_processes():
    split = sentences.Sentences(WORDS, LENGTHS, 0, 0)
    noise = sentences.noise_of(split, 5, 2, 0.75)
    sizes = {"num_lists": 3, "batch_size": 4}
    (whole,) = sentences.lists_to_choose_from(split, noise, FREQUENCIES, rows=range(4), **sizes)
    halves = [
        *sentences.lists_to_choose_from(split, noise, FREQUENCIES, rows=range(2), **sizes),
        *sentences.lists_to_choose_from(split, noise, FREQUENCIES, rows=range(2, 4), **sizes),
    ]
    for name, column in whole.items():
        np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), column)
    assert whole["example_mask"].tolist() == [1, 1, 1, 0]
    np.testing.assert_array_equal(whole["input_ids"][:3, 0, 1:], WORDS)
    ids, lengths = whole["input_ids"][..., 1:], whole["attention_mask"].sum(-1) - 1
    assert (lengths[:3] == LENGTHS[:, None]).all()
    log_q = noise.log_q(ids.reshape(-1, 6), lengths.ravel()).reshape(4, -1)
    np.testing.assert_allclose(whole["log_noise"], log_q, rtol=1e-6)
