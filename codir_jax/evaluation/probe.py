"""A linear classifier on fixed vectors: what an encoder without a trained head is worth on classes."""

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
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    order = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(np.mean(cross_val_predict(_classifier(), vectors, labels, cv=order) == labels))


def _classifier():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
