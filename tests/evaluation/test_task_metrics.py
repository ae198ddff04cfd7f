"""Metrics against numbers by hand, an independent formula, and the constant cases."""

import math

import numpy as np
import pytest

from codir_jax.evaluation import metrics

# 6 true positives, 1 false negative, 2 false positives, 3 true negatives.
LABELS = np.array([1] * 7 + [0] * 5, np.int32)
PREDICTIONS = np.array([1] * 6 + [0] + [1] * 2 + [0] * 3, np.int32)


def test_class_metrics_equal_the_numbers_by_hand():
    scores = metrics.compute(["accuracy", "f1", "macro_f1", "matthews_correlation"], LABELS, PREDICTIONS)
    assert list(scores) == ["accuracy", "f1", "macro_f1", "matthews_correlation"]
    assert scores["accuracy"] == pytest.approx(9 / 12)
    assert scores["f1"] == pytest.approx(12 / 15)
    assert scores["macro_f1"] == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert scores["matthews_correlation"] == pytest.approx((6 * 3 - 2 * 1) / math.sqrt(8 * 7 * 5 * 4))


def test_matthews_correlation_of_two_classes_is_the_pearson_of_the_zeros_and_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    predictions = np.where(rng.random(200) < 0.7, labels, 1 - labels)
    mcc = metrics.matthews_correlation(labels, predictions)
    assert mcc == pytest.approx(np.corrcoef(labels, predictions)[0, 1])


def test_correlations_agree_with_numpy_and_ranks():
    rng = np.random.default_rng(1)
    labels = rng.normal(size=50).astype(np.float32)
    predictions = labels**3 + rng.normal(size=50) * 0.1
    ranks = [np.argsort(np.argsort(values)) for values in (labels, predictions)]
    scores = metrics.compute(("pearson", "spearman", "combined"), labels, predictions)
    assert scores["pearson"] == pytest.approx(np.corrcoef(labels, predictions)[0, 1])
    assert scores["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores["combined"] == pytest.approx((scores["pearson"] + scores["spearman"]) / 2)


def test_combined_of_classes_is_the_mean_of_accuracy_and_f1():
    assert metrics.combined(LABELS, PREDICTIONS) == pytest.approx((9 / 12 + 12 / 15) / 2)


def test_r2_is_nought_for_the_mean_and_negative_for_worse():
    labels = np.array([1.0, 2.0, 3.0], np.float32)
    assert metrics.r2(labels, labels) == 1.0
    assert metrics.r2(labels, np.full(3, 2.0)) == 0.0
    assert metrics.r2(labels, labels + 10) == pytest.approx(1 - 300 / 2)  # a correlation of 1, in other units
    assert metrics.r2(np.ones(3), labels) == 0.0


@pytest.mark.parametrize("name", ["matthews_correlation", "pearson", "spearman"])
@pytest.mark.filterwarnings("error")
def test_constant_predictions_score_zero(name):
    labels = np.array([0, 1, 0, 1], np.float32 if name != "matthews_correlation" else np.int32)
    predictions = np.ones_like(labels)
    assert metrics.METRICS[name](labels, predictions) == 0.0
    assert metrics.METRICS[name](predictions, labels) == 0.0


def test_f1_is_zero_without_a_positive_prediction_and_refuses_three_classes():
    assert metrics.f1(LABELS, np.zeros_like(LABELS)) == 0.0
    with pytest.raises(ValueError, match="class 2 occurs; use macro_f1"):
        metrics.f1(np.array([0, 1, 2]), np.array([0, 1, 1]))


def test_bad_input_is_told_by_name():
    with pytest.raises(ValueError, match="unknown metric 'acc'; known: accuracy, average_precision"):
        metrics.compute(["acc"], LABELS, PREDICTIONS)
    with pytest.raises(ValueError, match="one shape"):
        metrics.accuracy(LABELS, PREDICTIONS[:-1])
    with pytest.raises(ValueError, match="at least one example"):
        metrics.accuracy(LABELS[:0], PREDICTIONS[:0])
    with pytest.raises(ValueError, match="1 of 2 predictions are not finite, the first at row 1"):
        metrics.pearson(np.array([0.5, 1.0]), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="class numbers"):
        metrics.accuracy(np.array([0.5, 1.0]), np.array([0.5, 1.0]))


def test_majority_share_is_the_accuracy_of_the_commonest_class():
    assert metrics.majority_share(LABELS) == pytest.approx(7 / 12)
    assert metrics.majority_share(np.array([2, 0, 2, 2])) == 0.75
    with pytest.raises(ValueError, match="at least one label"):
        metrics.majority_share(np.array([]))
