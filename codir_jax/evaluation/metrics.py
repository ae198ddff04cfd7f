"""Metrics of labelled tasks by name, as fractions (0.612, not 61.2), from labels and predictions of one split.

Every metric is `metric(labels, predictions) -> float`. Classification takes class numbers (int [num_examples]),
regression takes values (float [num_examples]); of texts with any number of classes (`several_labels`) both are
[num_examples, classes]. Where a correlation is undefined - the predictions or the labels are all
the same - it is 0.0, and `notes` says so in a sentence: a collapsed model must show as a number, not as a nan.

scikit-learn and scipy take 1.7 s to import, so each function imports what it needs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from codir_jax.evaluation import several_labels
from codir_jax.processes.user_error import UserError


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of predictions that equal the label."""
    labels, predictions = _class_arrays("accuracy", labels, predictions)
    return float(np.mean(labels == predictions))


def matthews_correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation (CoLA); for two classes the correlation of two 0/1 variables. 0.0 if either is constant."""
    from sklearn.metrics import matthews_corrcoef

    labels, predictions = _class_arrays("matthews_correlation", labels, predictions)
    if _is_constant(labels) or _is_constant(predictions):
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1 against class 0 (MRPC, QQP: class 1 is "paraphrase"). 0.0 if class 1 is never predicted rightly."""
    from sklearn.metrics import f1_score

    labels, predictions = _class_arrays("f1", labels, predictions)
    largest = int(max(labels.max(), predictions.max()))
    if largest > 1:
        raise ValueError(f"f1 is for two classes, 0 and 1, but class {largest} occurs; use macro_f1")
    return float(f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0))


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Unweighted mean of the F1 of each class that occurs in the labels or the predictions."""
    from sklearn.metrics import f1_score

    if np.ndim(labels) == 2:
        return several_labels.macro_f1(labels, predictions)
    labels, predictions = _class_arrays("macro_f1", labels, predictions)
    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Pearson correlation (STS-B). 0.0 if either is constant (or there are fewer than two examples)."""
    from scipy.stats import pearsonr

    labels, predictions = _value_arrays("pearson", labels, predictions)
    if _is_constant(labels) or _is_constant(predictions):
        return 0.0
    return _zero_if_nan(pearsonr(labels, predictions).statistic)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Spearman rank correlation (STS-B), ties sharing their mean rank. 0.0 if either is constant."""
    from scipy.stats import spearmanr

    labels, predictions = _value_arrays("spearman", labels, predictions)
    if _is_constant(labels) or _is_constant(predictions):
        return 0.0
    return _zero_if_nan(spearmanr(labels, predictions).statistic)


def r2(labels: np.ndarray, predictions: np.ndarray) -> float:
    """1 - squared error / squared error of the labels' mean: 0 is no better than that mean. 0.0 of constant labels."""
    labels, predictions = _value_arrays("r2", labels, predictions)
    if _is_constant(labels):
        return 0.0
    return float(1 - np.sum((labels - predictions) ** 2) / np.sum((labels - labels.mean()) ** 2))


def combined(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The average that GLUE ranks by: of Pearson and Spearman where labels are floats, else of accuracy and F1."""
    if np.issubdtype(np.asarray(labels).dtype, np.floating):
        return (pearson(labels, predictions) + spearman(labels, predictions)) / 2
    return (accuracy(labels, predictions) + f1(labels, predictions)) / 2


class Metric(NamedTuple):
    """How a metric is told and compared.

    Attributes:
      name: as in results.json. higher_is_better: False for losses, perplexity, error rates.
      unit: "share" is told times 100; any other, such as "nats", as it is.
    """

    name: str
    higher_is_better: bool = True
    unit: str = "share"


# Metrics of labels and predictions, by name; for all of them more is better.
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "matthews_correlation": matthews_correlation,
    "f1": f1,
    "macro_f1": macro_f1,
    "pearson": pearson,
    "spearman": spearman,
    "r2": r2,
    "combined": combined,
    "micro_f1": several_labels.micro_f1,
    "subset_accuracy": several_labels.subset_accuracy,
    "average_precision": several_labels.average_precision,
}


def compute(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Value of each named metric, in the order named.

    Args:
      names: keys of METRICS; the first is the task's primary metric.
      labels: int [num_examples] classes, float [num_examples] values of a regression, or 0 and 1 [num_examples, C].
      predictions: the same shape and kind (classes after the argmax, not logits; of several classes the logits).

    Raises:
      ValueError: an unknown name, arrays of two shapes, or values that are no classes where the metric counts classes.
      UserError: no examples, or a value that is not finite.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric {unknown[0]!r}; known: {', '.join(sorted(METRICS))}")
    return {name: METRICS[name](labels, predictions) for name in names}


def majority_share(labels: np.ndarray) -> float:
    """Share of the most frequent class: the accuracy of always answering it. labels: int [num_examples]."""
    labels = np.asarray(labels)
    if labels.size == 0:
        raise UserError("majority_share needs at least one label, got none; is the split unlabelled?")
    return float(np.unique(labels, return_counts=True)[1].max() / labels.size)


def _checked(name: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise ValueError(
            f"{name} expects labels and predictions of one shape [num_examples], got {labels.shape} and "
            f"{predictions.shape}; take the argmax of logits, or squeeze [num_examples, 1], first"
        )
    if labels.size == 0:
        raise UserError(f"{name} needs at least one example, got none; is the split unlabelled?")
    for what, values in (("labels", labels), ("predictions", predictions)):
        finite = np.isfinite(values)
        if not finite.all():
            raise UserError(
                f"{name}: {int((~finite).sum())} of {values.size} {what} are not finite, the first at row "
                f"{int(np.argmin(finite))}; look for a diverged model or a missing score"
            )
    return labels, predictions


def _class_arrays(name: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = _checked(name, labels, predictions)
    for what, values in (("labels", labels), ("predictions", predictions)):
        # Regression values in a class metric would count as one class per distinct float; sklearn's message is cryptic.
        if not np.array_equal(values, values.astype(np.int64)):
            raise ValueError(f"{name} expects class numbers as {what}, got {values.dtype} with fractions")
    return labels.astype(np.int64), predictions.astype(np.int64)


def _value_arrays(name: str, labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = _checked(name, labels, predictions)
    return labels.astype(np.float64), predictions.astype(np.float64)


def _is_constant(values: np.ndarray) -> bool:
    return bool(np.all(values == values.flat[0]))


def _zero_if_nan(value: float) -> float:
    # Values that differ by less than a rounding step have no variance in floating point: also undefined.
    return 0.0 if np.isnan(value) else float(value)
