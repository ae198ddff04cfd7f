"""Lists to choose from: a sentence, and copies of it with other words in some places.

What a score is used for is a choice among candidates that differ in a few words (the n-best list of a recogniser, the
drafts of a corrector). Sentences drawn from an n-gram model differ in all words, so telling those apart is another
question. All candidates of a list have one length: a score that likes short sentences gains nothing.
"""

from __future__ import annotations

import numpy as np

# Copies in a list, and the share of the words that are replaced in each; at least one is.
NUM_COPIES, SHARE = 9, 0.1
# Tells these draws from those of noise.
_LISTS = 1 << 41


def spread(num_sentences: int, num_lists: int) -> np.ndarray:
    """Returns which sentences of a split have a list: int64 [min(both)], evenly over the split."""
    num = min(num_lists, num_sentences)
    return np.arange(num) * num_sentences // max(num, 1)


def copies(words: np.ndarray, lengths: np.ndarray, frequencies: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns NUM_COPIES copies of each sentence, none of them equal to it: int32 [n, NUM_COPIES, width].

    A word is replaced by another one, drawn by its frequency in the train split; the draws depend on the index only.

    Args:
      words: int32 [n, width]. lengths: int64 [n], at least 1.
      frequencies: float64 [vocab], 0 for what is no word; two words have more than 0.
      indices: int64 [n], of the sentences in their split.
    """
    width = words.shape[1]
    keys = [(_LISTS, int(index)) for index in indices]
    draws = np.stack([np.random.default_rng(key).random((2, NUM_COPIES, width)) for key in keys])
    is_inside = (np.arange(width) < lengths[:, None])[:, None]
    first = np.where(is_inside, draws[:, 0], 2.0)
    is_replaced = is_inside & ((first < SHARE) | (first == first.min(axis=-1, keepdims=True)))
    # By the inverse of the distribution without the word itself: what lies above it is moved up by its share.
    shares = frequencies / frequencies.sum()
    above = np.cumsum(shares)
    own, below = shares[words][:, None], (above - shares)[words][:, None]
    point = draws[:, 1] * (1.0 - own)
    point = np.where(point >= below, point + own, point)
    is_word = np.flatnonzero(shares)
    place = np.searchsorted(above[is_word], point, side="right")
    drawn = is_word[np.minimum(place, len(is_word) - 1)]
    # The last digit of a sum can give the word itself back; its neighbour among the words then.
    neighbour = is_word[(np.searchsorted(is_word, drawn) + 1) % len(is_word)]
    drawn = np.where(drawn == words[:, None], neighbour, drawn)
    return np.where(is_replaced, drawn, words[:, None]).astype(np.int32)
