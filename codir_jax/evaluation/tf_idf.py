"""What counting words is worth: a baseline that every sentence encoder should be compared with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Dimensions of the clustering baseline (latent semantic analysis).
NUM_TOPICS = 100
# A linear model of more train rows takes minutes and is hardly better: as many are drawn.
MAX_TRAIN_ROWS = 20_000
# Inverse strengths of the regularisation; the best by three folds of the train rows is taken.
STRENGTHS = (1.0, 10.0, 100.0)
NUM_FOLDS = 3


def cosines(firsts: Sequence[str], seconds: Sequence[str], corpus: Sequence[str]) -> np.ndarray:
    """The cosine of the TF-IDF vectors of text i of both, float64 [n].

    Args:
        corpus: texts that tell how rare a word is. A word that is not in it counts for nothing.
    """
    counted = _counter(corpus)
    a, b = counted.transform(firsts), counted.transform(seconds)
    return np.asarray(a.multiply(b).sum(axis=1)).ravel()


def topics(texts: Sequence[str]) -> np.ndarray:
    """TF-IDF of the texts, themselves the corpus, in its first singular directions: unit rows [n, at most 100]."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    counted = _counter(texts).transform(texts)
    num_topics = min(NUM_TOPICS, min(counted.shape) - 1)
    return normalize(TruncatedSVD(max(num_topics, 1), random_state=0).fit_transform(counted))


class LinearModel(NamedTuple):
    """A linear model of TF-IDF, of words and of two words in a row: what a language model has to beat.

    Attributes:
      counted: the fitted vectoriser. linear: the fitted classifier or regression, of scikit-learn.
      title: in words. num_rows: that it was fitted on.
    """

    counted: Any
    linear: Any
    title: str
    num_rows: int

    def predict(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """The class, int [n], or the value, float [n], of each text, a tuple of one or of the two of a pair.

        Of any number of classes a text float [n, classes], above 0 for those that it has.
        """
        features = _features(self.counted, texts)
        if getattr(self.linear, "multilabel_", False):
            return self.linear.decision_function(features)
        return self.linear.predict(features)

    @property
    def num_weights(self) -> int:
        """Weights of the linear model, and the rarity of every word."""
        parts = [one for one in getattr(self.linear, "estimators_", [self.linear]) if hasattr(one, "coef_")]
        return int(sum(one.coef_.size + np.size(one.intercept_) for one in parts) + len(self.counted.vocabulary_))

    @property
    def num_bytes(self) -> int:
        """Of the weights in float32 and of the words."""
        return 4 * self.num_weights + sum(len(word.encode()) + 1 for word in self.counted.vocabulary_)


def linear_model(
    texts: Sequence[tuple[str, ...]], labels: Sequence[float], is_regression: bool, seed: int = 0
) -> LinearModel:
    """Logistic regression, or ridge regression, on TF-IDF; of any number of classes a text one against the rest each.

    Args:
      texts: a tuple of one text, or of the two of a pair.
      labels: int classes, float targets, or [n, classes] of 0 and 1.
      seed: of the draw where there are more than MAX_TRAIN_ROWS, and of the folds.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, KFold

    labels = np.asarray(labels)
    rows = np.arange(len(texts))
    if len(rows) > MAX_TRAIN_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_TRAIN_ROWS, replace=False))
    texts, labels = [texts[row] for row in rows], labels[rows]
    counted = _counter([text for row in texts for text in row], longest=2)
    if is_regression:
        model, strengths = Ridge(solver="lsqr"), {"alpha": [1 / strength for strength in STRENGTHS]}
    else:
        model, strengths = LogisticRegression(max_iter=1000), {"C": list(STRENGTHS)}
    features = _features(counted, texts)
    if labels.ndim == 2:
        model = _one_against_rest(model, features, labels, seed)
        return LinearModel(counted, model, "TF-IDF + logistic regression, one class against the rest", len(rows))
    if is_regression or np.unique(labels, return_counts=True)[1].min() >= NUM_FOLDS:
        folds = KFold(NUM_FOLDS, shuffle=True, random_state=seed) if is_regression else NUM_FOLDS
        model = GridSearchCV(model, strengths, cv=folds).fit(features, labels).best_estimator_
    else:
        model = model.fit(features, labels)
    return LinearModel(counted, model, f"TF-IDF + {'ridge' if is_regression else 'logistic'} regression", len(rows))


def _one_against_rest(model, features, labels: np.ndarray, seed: int):
    """A fitted classifier for each class; their one strength is the best for a third of the rows that is held out."""
    from sklearn.model_selection import GridSearchCV, ShuffleSplit
    from sklearn.multiclass import OneVsRestClassifier

    strengths, held_out = {"estimator__C": list(STRENGTHS)}, ShuffleSplit(1, test_size=1 / NUM_FOLDS, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Label .* is present in all training examples")
        search = GridSearchCV(OneVsRestClassifier(model), strengths, cv=held_out, scoring="f1_micro")
        return search.fit(features, labels).best_estimator_


def _features(counted, texts: Sequence[tuple[str, ...]]):
    """The TF-IDF of each text, of a pair also of the words that both have, and their cosine: sparse [n, columns]."""
    from scipy import sparse

    parts = [counted.transform(column) for column in zip(*texts, strict=True)]
    if len(parts) == 2:
        shared = parts[0].multiply(parts[1]).tocsr()
        parts += [shared, sparse.csr_matrix(shared.sum(axis=1))]
    return sparse.hstack(parts, format="csr")


def _counter(corpus: Sequence[str], longest: int = 1):
    """Fitted to a corpus, with rows of norm 1.

    A word of one character counts, and a word that comes twice counts 1 + ln 2 times. Where there is no word at all,
    as in texts of emojis, what stands between white space is one.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    def counter(pattern: str):
        return TfidfVectorizer(token_pattern=pattern, sublinear_tf=True, ngram_range=(1, longest))

    try:
        return counter(r"(?u)\b\w+\b").fit(corpus)
    except ValueError:  # an empty vocabulary
        return counter(r"\S+|^\s*$").fit(corpus)
