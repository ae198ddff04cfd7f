"""Clustering: do the vectors of texts of one class lie together?

k-means with the true number of classes, from several seeds; each cluster is given the class that makes most texts right
(Hungarian matching), as in Xu et al., "Self-taught convolutional neural networks for short text clustering", 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# The best of so many starts, by inertia, is one seed's result. scikit-learn's default became 1 in version 1.4.
NUM_STARTS = 10


def k_means_scores(
    vectors: np.ndarray, labels: Sequence, *, num_seeds: int = 10, tick: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """{"accuracy", "accuracy_sd", "nmi", "nmi_sd"}, all x 100, over the seeds 0, 1, ...

    Args:
        vectors: float [n, width], taken as they are.
        labels: n classes, numbers or names.
        num_seeds: of k-means; the standard deviation is that of a sample, 0 of one seed.
        tick: is called after each seed.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    found = []
    for seed in range(num_seeds):
        model = KMeans(len(names), n_init=NUM_STARTS, random_state=seed)
        clusters = model.fit_predict(np.asarray(vectors, np.float32))
        found.append((matched_accuracy(classes, clusters), normalized_mutual_info_score(classes, clusters)))
        tick()
    values = 100.0 * np.asarray(found)
    mean = values.mean(axis=0)
    sd = values.std(axis=0, ddof=1) if num_seeds > 1 else np.zeros(2)
    return {
        "accuracy": float(mean[0]),
        "accuracy_sd": float(sd[0]),
        "nmi": float(mean[1]),
        "nmi_sd": float(sd[1]),
    }


def matched_accuracy(classes: np.ndarray, clusters: np.ndarray) -> float:
    """The share of texts whose cluster's class is theirs, under the one-to-one matching that makes it largest.

    Args:
        classes, clusters: int [n], from 0.
    """
    from scipy.optimize import linear_sum_assignment

    size = int(max(classes.max(), clusters.max())) + 1
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (clusters, classes), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(classes))
