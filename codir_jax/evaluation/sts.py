"""Semantic textual similarity: does the cosine of two vectors rank pairs of texts as people do?

References:
    Agirre et al., "SemEval-2012 Task 6", 2012. Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, for Spearman.
    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity", ICML 2020.
"""

from __future__ import annotations

import numpy as np

# Pairs above it mean the same, of scores from 0 to 5.
SAME = 4.0
# Texts of which all pairs are looked at: two million pairs.
NUM_TEXTS = 2000


def cosines(firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The cosine of row i of both, float64 [n]; 0 where one is a vector of zeros."""
    return np.sum(_unit(firsts) * _unit(seconds), axis=-1)


def spearman(similarities: np.ndarray, scores: np.ndarray) -> float:
    """Spearman's rank correlation x 100; nan where all similarities are the same, so that there is no ranking."""
    from scipy.stats import spearmanr

    similarities = np.asarray(similarities, np.float64)
    # Equal vectors have cosines that differ by rounding only: a ranking of rounding errors is none.
    if np.ptp(similarities) < 1e-6:
        return float("nan")
    return 100.0 * float(spearmanr(similarities, scores).statistic)


def alignment(firsts: np.ndarray, seconds: np.ndarray, scores: np.ndarray) -> float:
    """Mean |u - v|^2 of unit vectors over the pairs with a score above 4; lower is better; nan where there are none."""
    same = np.asarray(scores) > SAME
    if not same.any():
        return float("nan")
    return float(np.mean(np.sum((_unit(firsts[same]) - _unit(seconds[same])) ** 2, axis=-1)))


def spread(vectors: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How far texts that have nothing in common lie apart.

    Args:
        vectors: float [n, width] of different texts; of more than `NUM_TEXTS`, so many are drawn by `seed`.

    Returns:
        {"uniformity": log E exp(-2 |u - v|^2) over all pairs of unit vectors, lower is better; "mean_cosine": of the
        same pairs, 0 where directions are used evenly}; nan of fewer than two vectors.
    """
    if len(vectors) < 2:
        return {"uniformity": float("nan"), "mean_cosine": float("nan")}
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:NUM_TEXTS]
    unit = _unit(vectors[chosen])
    products = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return {
        "uniformity": float(np.log(np.mean(np.exp(-2.0 * (2.0 - 2.0 * products))))),
        "mean_cosine": float(products.mean()),
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
