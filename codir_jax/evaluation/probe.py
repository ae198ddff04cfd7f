"""A linear classifier on fixed vectors: what an encoder without a trained head is worth on classes.

As SentEval judges encoders (Conneau and Kiela, "SentEval", LREC 2018), with folds in the place of its own splits.
"""

from collections.abc import Callable

import numpy as np

# Enough for a linear classifier of a few hundred features; more would make an evaluation as dear as an epoch.
MAX_ROWS = 2000


def draw_rows(labels: np.ndarray, is_labelled: np.ndarray, seed: int) -> np.ndarray:
    """int [at most MAX_ROWS], ascending: labelled rows that a probe is fitted on, with the first one of each class.

    Args:
      labels: int32 [n]. is_labelled: bool [n].
      seed: of the draw.
    """
    rows = np.flatnonzero(is_labelled)
    firsts = rows[np.unique(labels[rows], return_index=True)[1]]
    drawn = np.random.default_rng(seed).permutation(np.setdiff1d(rows, firsts))
    return np.sort(np.concatenate([firsts, drawn[: max(MAX_ROWS - len(firsts), 0)]]))


def predict(vectors: np.ndarray, labels: np.ndarray, new_vectors: np.ndarray) -> np.ndarray:
    """int [k]: classes of `new_vectors` by multinomial logistic regression on standardised features.

    Args:
      vectors: float32 [n, width]. labels: int32 [n]. new_vectors: float32 [k, width].
    """
    return _classifier().fit(vectors, labels).predict(new_vectors)


def cross_validated(vectors: np.ndarray, labels: np.ndarray, folds: int, *, seed: int) -> float:
    """Accuracy of the classifier of `predict` on rows that it was not fitted on, every row once.

    Args:
      vectors: float32 [n, width]. labels: int [n], each at least `folds` times.
      seed: of the order of the rows.
    """
    answers = held_out(lambda own, new: predict(vectors[own], labels[own], vectors[new]), labels, folds, seed=seed)
    return float(np.mean(answers == labels))


def held_out(
    answer: Callable[[np.ndarray, np.ndarray], np.ndarray],
    labels: np.ndarray,
    folds: int,
    *,
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """int [n]: the answer to every row of a model that was not fitted on it.

    Args:
      answer: (rows to fit on, other rows) -> the classes of the latter.
      labels: int [n], each at least `folds` times; every fold has its share of each.
      seed: of the order of the rows.
      tick: is called after each fold.
    """
    from sklearn.model_selection import StratifiedKFold

    answers = np.empty(len(labels), labels.dtype)
    for own, new in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        answers[new] = answer(own, new)
        tick()
    return answers


def _classifier():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
