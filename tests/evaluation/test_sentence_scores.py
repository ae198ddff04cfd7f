"""Similarity, clustering and baselines: numbers by hand and limit cases."""

import math

import numpy as np
import pytest

from codir_jax.evaluation import clustering, sts, tf_idf


def test_spearman_is_of_ranks():
    scores = [0.0, 1.0, 2.0, 5.0]
    assert sts.spearman(np.array([0.1, 0.2, 0.3, 0.9]), scores) == pytest.approx(100)
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / (4 * 15) = 0.8.
    assert sts.spearman(np.array([0.2, 0.1, 0.3, 0.9]), scores) == pytest.approx(80)


def test_a_collapsed_encoder_ranks_nothing():
    same = np.full((4, 8), 0.3, np.float32)
    rounding = same + np.float32(1e-8) * np.arange(32).reshape(4, 8)
    assert math.isnan(sts.spearman(sts.cosines(same, rounding), [0, 1, 2, 3]))


def test_cosines_ignore_norms_and_bear_zeros():
    a, b = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[5.0, 0.0], [-2.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(sts.cosines(a, b), [1, -math.sqrt(0.5), 0], atol=1e-12)


def test_alignment_is_of_the_pairs_that_mean_the_same():
    a, b = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [1.0, 0.0], [-1.0, 0.0]])
    assert sts.alignment(a, b, np.array([4.5, 5.0, 4.0])) == pytest.approx((2 + 0) / 2)  # 4 is not above 4
    assert math.isnan(sts.alignment(a, b, np.array([1.0, 2.0, 3.0])))


def test_spread_of_a_cross_and_of_one_point():
    cross = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    # Of six pairs two are opposite (distance^2 4), four at right angles (2).
    told = sts.spread(cross)
    assert told["uniformity"] == pytest.approx(math.log((2 * math.exp(-8) + 4 * math.exp(-4)) / 6))
    assert told["mean_cosine"] == pytest.approx(-2 / 6)
    assert sts.spread(np.ones((5, 3))) == pytest.approx({"uniformity": 0.0, "mean_cosine": 1.0}, abs=1e-9)
    assert math.isnan(sts.spread(np.ones((1, 3)))["uniformity"])


def test_clusters_are_matched_one_to_one():
    classes = np.array([0, 0, 0, 1, 1, 2])
    assert clustering.matched_accuracy(classes, np.array([2, 2, 2, 0, 0, 1])) == 1
    # Both clusters would rather be class 0; only one can.
    assert clustering.matched_accuracy(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 1])) == pytest.approx(3 / 5)


def test_separate_classes_cluster_perfectly_and_their_names_do_not_matter():
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(3), 8, axis=0) * 10 + rng.normal(size=(24, 3)) * 0.1
    ticks = []
    told = clustering.k_means_scores(vectors, np.repeat(["z", "a", "7"], 8), num_seeds=2, tick=lambda: ticks.append(1))
    assert told == pytest.approx({"accuracy": 100, "accuracy_sd": 0, "nmi": 100, "nmi_sd": 0}) and len(ticks) == 2


def test_tf_idf_by_hand():
    corpus = ["a cat", "a dog", "a"]
    # idf of sklearn: ln((1 + n) / (1 + df)) + 1.
    often, rare = math.log(4 / 4) + 1, math.log(4 / 2) + 1
    told = tf_idf.cosines(["a cat", "a", "bird"], ["A  dog!", "a a", "bird"], corpus)
    np.testing.assert_allclose(told, [often**2 / (often**2 + rare**2), 1, 0])


def test_topics_of_few_texts_are_unit_rows():
    rows = tf_idf.topics(["a cat", "a dog", "the sea"])
    assert rows.shape == (3, 2)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
