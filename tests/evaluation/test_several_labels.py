"""Metrics of several labels a text against numbers by hand and scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from codir_jax.evaluation import metrics, runner, several_labels
from codir_jax.processes.user_error import UserError

NAMES = ("micro_f1", "macro_f1", "subset_accuracy", "average_precision")
LABELS = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
# Of class 0 one of two found, of class 1 both and one too many; nothing of class 2 in labels or answers.
SCORES = np.array([[2.0, 0.5, -1.0], [-1.0, 0.1, -3.0], [-2.0, 0.4, -0.1], [-0.5, -4.0, -1.0]])


def test_the_numbers_by_hand():
    """3 hits, 1 missed, 1 wrong: 6 / 8. F1 of the classes 2 / 3 and 4 / 5. Ranks of class 0: 1, 2; of class 1: 1, 3."""
    scores = metrics.compute(NAMES, LABELS, SCORES)
    assert list(scores.values()) == pytest.approx([6 / 8, (2 / 3 + 4 / 5) / 2, 2 / 4, (1 + (1 + 2 / 3) / 2) / 2])
    assert several_labels.mean_share(LABELS) == 0.5


def test_scikit_learn_gives_the_same_where_every_class_occurs():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 5)) < [0.1, 0.3, 0.5, 0.7, 0.2]).astype(int)
    logits = rng.normal(size=(60, 5)) + 1.5 * labels - 0.7
    ours = runner.score(logits, labels, NAMES, False)
    assert ours["micro_f1"] == pytest.approx(f1_score(labels, logits > 0, average="micro"))
    assert ours["macro_f1"] == pytest.approx(f1_score(labels, logits > 0, average="macro"))
    assert ours["subset_accuracy"] == pytest.approx(np.mean((labels == (logits > 0)).all(1)))
    assert ours["average_precision"] == pytest.approx(average_precision_score(labels, logits, average="macro"))


def test_a_model_that_answers_nothing_has_no_f1_and_the_precision_of_chance():
    scores = metrics.compute(NAMES, LABELS, np.full(LABELS.shape, -1.0))
    assert list(scores.values()) == [0.0, 0.0, 0.25, 0.5]


def test_the_distance_to_a_teacher_is_of_each_class():
    """ln 2 - H(p) of a student at 0.5, in the mean; the first row's answers are equal."""
    teacher = np.array([[3.0, -1.0], [0.5, -2.0]])
    found = runner.distance_to_teacher(np.array([[1e-9, -1.0], [0.0, -2.0]]), teacher, False, True)
    p = 1 / (1 + np.exp(-teacher[:, 0]))
    kl = np.log(2) + p * np.log(p) + (1 - p) * np.log(1 - p)
    assert found == {"teacher_kl": pytest.approx(kl.sum() / 4), "teacher_agreement": 0.5}


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="expects labels and scores"):
        several_labels.micro_f1(LABELS, SCORES[:, :2])
    with pytest.raises(UserError, match="1 scores are not finite"):
        several_labels.micro_f1(LABELS, np.where(SCORES == 2.0, np.nan, SCORES))
