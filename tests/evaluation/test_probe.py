"""The linear probe: what it can read off vectors, and what it cannot."""

import numpy as np
import pytest

from codir_jax.evaluation import probe


@pytest.fixture
def labels():
    return np.arange(200) % 4


def test_a_probe_finds_a_label_that_lies_in_the_vectors_however_small(labels):
    vectors = np.random.default_rng(0).normal(size=(200, 8))
    vectors[:, 3] += 10 * labels
    vectors[:, 3] *= 1e-3
    assert probe.cross_validated(vectors.astype(np.float32), labels, 5, seed=0) > 0.95


def test_a_probe_is_at_chance_where_there_is_nothing_even_with_more_features_than_rows(labels):
    vectors = np.random.default_rng(0).normal(size=(200, 400)).astype(np.float32)
    assert (probe.predict(vectors, labels, vectors) == labels).all()  # fitted on the same rows it would seem perfect
    assert probe.cross_validated(vectors, labels, 5, seed=0) == pytest.approx(0.25, abs=0.1)


def test_no_row_is_answered_by_a_model_that_saw_it_and_every_fold_has_its_share_of_each_class(labels):
    calls = []

    def answer(own, new):
        calls.append(len(own))
        assert not set(own) & set(new) and len(own) + len(new) == len(labels)
        assert (np.bincount(labels[new]) == len(new) // 4).all()
        return labels[new]

    assert (probe.held_out(answer, labels, 5, seed=0) == labels).all()
    assert calls == [160] * 5
