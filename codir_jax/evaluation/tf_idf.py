"""What counting words is worth: a baseline that every sentence encoder should be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Dimensions of the clustering baseline (latent semantic analysis).
NUM_TOPICS = 100


def cosines(firsts: Sequence[str], seconds: Sequence[str], corpus: Sequence[str]) -> np.ndarray:
    """The cosine of the TF-IDF vectors of text i of both, float64 [n].

    Args:
        corpus: texts that tell how rare a word is. A word that is not in it counts for nothing.
    """
    counted = _counter().fit(corpus)
    a, b = counted.transform(firsts), counted.transform(seconds)
    return np.asarray(a.multiply(b).sum(axis=1)).ravel()


def topics(texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """TF-IDF of the texts, themselves the corpus, in its first singular directions: unit rows [n, at most 100]."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    counted = _counter().fit_transform(texts)
    num_topics = min(NUM_TOPICS, min(counted.shape) - 1)
    return normalize(TruncatedSVD(max(num_topics, 1), random_state=seed).fit_transform(counted))


def _counter():
    """Rows of norm 1; a word of one character counts, and a word that comes twice counts 1 + ln 2 times."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
