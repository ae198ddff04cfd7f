"""Summaries and paired intervals against numbers by hand and scipy's paired test."""

import json

import numpy as np
import pytest
from scipy import stats

from codir_jax.evaluation.statistics import (
    interval,
    paired_difference,
    resampled_difference,
    resampled_scores,
    summary,
)


def test_paired_difference_equals_the_interval_by_hand():
    # Differences 1, 2, 3: mean 2, sd 1, t(2, 0.975) = 4.30265.
    result = paired_difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (result.mean, result.sd, result.n) == (2.0, 1.0, 3)
    assert result.high - result.mean == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert result.mean - result.low == pytest.approx(result.high - result.mean)
    assert not result.excludes_zero


def test_interval_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 8), rng.normal(0.0, 1.0, 8)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    result = paired_difference(a, b)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def test_interval_excludes_zero_exactly_when_the_paired_test_is_significant():
    rng = np.random.default_rng(1)
    for _ in range(30):
        a, b = rng.normal(0.8, 1.0, 5), rng.normal(0.0, 1.0, 5)
        assert paired_difference(a, b).excludes_zero == (stats.ttest_rel(a, b).pvalue < 0.05)


def test_pairing_removes_what_the_seed_does_to_both_arms():
    seeds = np.array([0.0, 10.0, -10.0, 5.0])
    result = paired_difference(seeds + 1.0, seeds)
    assert (result.mean, result.sd) == (1.0, 0.0) and result.excludes_zero


def test_one_seed_has_a_mean_but_no_spread_and_is_valid_json():
    result = paired_difference([0.6], [0.5])
    assert result.mean == pytest.approx(0.1) and result.sd is None and not result.excludes_zero
    assert json.loads(json.dumps(result._asdict(), allow_nan=False))["low"] is None
    assert summary([0.6]) == (0.6, None, 0.6, 0.6, 1)


def test_summary_uses_the_sample_deviation():
    assert summary([1.0, 2.0, 3.0]) == (2.0, 1.0, 1.0, 3.0, 3)


def test_bad_scores_are_told():
    with pytest.raises(ValueError, match="same seeds on both sides, got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="score 1 is nan"):
        paired_difference([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least one score"):
        summary([])


def _accuracy(labels, predictions):
    return float(np.mean(labels == predictions))


def test_the_interval_of_a_mean_is_students():
    found = stats.t.interval(0.95, 3, loc=2.5, scale=stats.sem([1, 2, 3, 4]))
    assert interval([1.0, 2.0, 3.0, 4.0]) == pytest.approx(found) and interval([1.0]) is None


def test_resampled_accuracy_spreads_as_the_binomial_law_says():
    labels = np.arange(400) % 2
    right = np.where(np.arange(400) < 300, labels, 1 - labels)
    scores = resampled_scores(_accuracy, labels, {"a": right}, num_resamples=4000)["a"]
    assert scores.mean() == pytest.approx(0.75, abs=0.002)
    assert scores.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.05)


def test_rows_are_drawn_for_both_arms_at_once():
    """b errs where a errs and on ten rows more: the difference has the law of those ten rows alone."""
    labels = np.zeros(500, int)
    a = (np.arange(500) < 200).astype(int)
    b = (np.arange(500) < 210).astype(int)
    scores = resampled_scores(_accuracy, labels, {"a": a, "b": b}, num_resamples=4000)
    found = resampled_difference(0.02, scores["a"], scores["b"])
    assert found.sd == pytest.approx(np.sqrt(0.02 * 0.98 / 500), rel=0.06)  # unpaired, the square root of 2 x .24 / 500
    assert found.mean == 0.02 and found.excludes_zero
    same = resampled_difference(0.0, scores["a"], scores["a"])
    assert (same.low, same.high) == (0.0, 0.0) and not same.excludes_zero
