"""Means over seeds and paired intervals: what a result table says beside a single number.

A claim that arm A beats arm B compares the SAME seeds (same data order, same start), because the seed moves both: the
differences vary far less than the scores. With n seeds the interval is mean +- t(n - 1) * sd / sqrt(n).

Of one seed there is another interval, over the rows that were judged: rows are drawn again with replacement, the same
ones for both arms (the paired bootstrap: Efron and Tibshirani 1993; Koehn 2004). It says whether other rows might turn
the order; what another seed would do, it cannot say.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from codir_jax.processes.user_error import UserError


class Summary(NamedTuple):
    """Mean and spread of one arm's scores; `sd` is the sample deviation (n - 1), None for one score."""

    mean: float
    sd: float | None
    minimum: float
    maximum: float
    n: int


class PairedDifference(NamedTuple):
    """Mean of scores_a - scores_b with its t-interval; `sd`, `low` and `high` are None for a single pair.

    None and not nan, so that the JSON written from it is valid.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """True where the whole interval lies on one side of 0; a single pair never does."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def summary(scores: Sequence[float]) -> Summary:
    """Mean, sample deviation, extremes and count of float scores [n], one per seed."""
    values = _finite("scores", scores)
    spread = float(np.std(values, ddof=1)) if values.size > 1 else None
    return Summary(float(values.mean()), spread, float(values.min()), float(values.max()), int(values.size))


def paired_difference(scores_a: Sequence[float], scores_b: Sequence[float]) -> PairedDifference:
    """Mean, deviation and two-sided 95 % Student interval of scores_a - scores_b, paired by position.

    Args:
      scores_a: float [n], one per seed.
      scores_b: float [n], the same seeds in the same order.

    Raises:
      ValueError: unequal lengths, or no scores.
      UserError: a score that is not finite (a diverged run is named, not averaged).
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(
            f"paired scores need the same seeds on both sides, got {len(scores_a)} and {len(scores_b)}; "
            "keep the seeds that both arms have finished"
        )
    differences = _finite("scores_a", scores_a) - _finite("scores_b", scores_b)
    n, mean = differences.size, float(differences.mean())
    if n == 1:
        return PairedDifference(mean, None, None, None, 1)
    from scipy.stats import t  # late: slow to import, and a single seed does not need it

    spread = float(np.std(differences, ddof=1))
    half_width = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return PairedDifference(mean, spread, mean - half_width, mean + half_width, int(n))


def interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """(low, high) of the mean of float scores [n], one per seed, with 95 % by Student's t; None for one score."""
    found = paired_difference(scores, [0.0] * len(scores))
    return None if found.low is None else (found.low, found.high)


def resampled_scores(
    score: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    *,
    num_resamples: int = 500,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Scores of several models on rows drawn with replacement, the same draws for all: name -> float64 [num_resamples].

    Args:
      score: (labels, predictions) -> number, such as those of `metrics.METRICS`.
      labels: [n]. predictions: name -> [n].
    """
    draws = np.random.default_rng(seed).integers(0, len(labels), (num_resamples, len(labels)))
    return {
        name: np.asarray([score(labels[rows], found[rows]) for rows in draws]) for name, found in predictions.items()
    }


def resampled_difference(observed: float, scores_a: np.ndarray, scores_b: np.ndarray) -> PairedDifference:
    """The observed difference with the 95 % percentile interval of `scores_a - scores_b`, of `resampled_scores`.

    `n` counts the draws.
    """
    differences = scores_a - scores_b
    low, high = np.percentile(differences, [2.5, 97.5])
    return PairedDifference(observed, float(np.std(differences, ddof=1)), float(low), float(high), len(differences))


def _finite(name: str, scores: Sequence[float]) -> np.ndarray:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name}: expected a list of at least one score, got shape {values.shape}")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise UserError(f"{name}: score {row} is {values[row]}; leave that seed out of both arms")
    return values
