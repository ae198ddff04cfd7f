"""Metrics of texts with any number of classes, from labels [n, C] of 0 and 1 and scores [n, C], above 0 for yes.

A score of 0 is a probability of 0.5. A class that neither the labels nor the answers have counts in no mean.
"""

import numpy as np

from codir_jax.processes.user_error import UserError


def micro_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """F1 of all (text, class) decisions together, 2 TP / (2 TP + FP + FN); 0.0 without a right one."""
    hits, wrong = _counts("micro_f1", labels, scores)
    return float(2 * hits.sum() / max(2 * hits.sum() + wrong.sum(), 1))


def macro_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """Unweighted mean of the F1 of each class that occurs in the labels or the answers."""
    hits, wrong = _counts("macro_f1", labels, scores)
    occurs = hits + wrong > 0
    return float(np.mean(2 * hits[occurs] / (2 * hits + wrong)[occurs])) if occurs.any() else 0.0


def subset_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of texts with exactly the right classes."""
    labels, scores = _checked("subset_accuracy", labels, scores)
    return float(np.mean(np.all((labels > 0) == (scores > 0), axis=1)))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the classes that some text has of sum_k (R_k - R_k-1) P_k over the thresholds; free of one."""
    from sklearn.metrics import average_precision_score

    labels, scores = _checked("average_precision", labels, scores)
    occurs = labels.any(axis=0)
    return float(average_precision_score(labels[:, occurs] > 0, scores[:, occurs])) if occurs.any() else 0.0


def mean_share(labels: np.ndarray) -> float:
    """The `average_precision` of one answer for all texts: the mean share of texts that have a class."""
    share = np.asarray(labels, np.float64).mean(axis=0)
    return float(share[share > 0].mean()) if share.any() else 0.0


def _counts(name: str, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(true positives, false positives and negatives) of each class, int [C]."""
    labels, scores = _checked(name, labels, scores)
    has_it, answered = labels > 0, scores > 0
    return (has_it & answered).sum(axis=0), (has_it != answered).sum(axis=0)


def _checked(name: str, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise ValueError(f"{name} expects labels and scores [num_examples, C], got {labels.shape}, {scores.shape}")
    if not labels.size:
        raise UserError(f"{name} needs at least one example, got none; is the split unlabelled?")
    if not np.isfinite(scores).all():
        raise UserError(f"{name}: {int((~np.isfinite(scores)).sum())} scores are not finite; has the model diverged?")
    return labels, scores
