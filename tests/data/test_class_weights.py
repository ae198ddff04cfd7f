"""Weights of classes have the mean 1 over the examples."""

import numpy as np
import pytest

from codir_jax.data import class_weights
from codir_jax.processes.user_error import UserError

LABELS = np.asarray([0] * 6 + [1] * 2 + [2] * 4)
NAMES = ("a", "b=c", "d")


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    theirs = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert class_weights.of_classes("balanced", NAMES, LABELS) == pytest.approx(theirs)


def test_named_weights_keep_their_ratio():
    """By hand: weights 1, 3 and 1 of 12 rows have the mean (6 + 6 + 4) / 12 = 4 / 3."""
    assert class_weights.of_classes("b=c=3", NAMES, LABELS) == pytest.approx((0.75, 2.25, 0.75))
    assert class_weights.of_classes("", NAMES, LABELS) == ()


@pytest.mark.parametrize("setting", ["balance", "a", "a=0", "a=-1", "a=inf", "a=nan", "a=1,", "a=x"])
def test_what_is_no_weight_is_refused(setting):
    with pytest.raises(UserError, match="expected 'balanced' or NAME=WEIGHT"):
        class_weights.check(setting)


def test_a_class_that_is_not_there_is_refused():
    class_weights.check("bc=2")
    with pytest.raises(UserError, match=r"no class 'bc'.*did you mean 'b=c'"):
        class_weights.of_classes("bc=2", NAMES, LABELS)


def test_of_several_classes_a_text_a_yes_weighs_as_all_noes_do():
    """By hand: 2 of 8 rows are a, so a yes weighs 6 / 2; 4 are b=c, 8 - 4 over 4."""
    labels = np.zeros((8, 3))
    labels[:2, 0] = labels[:4, 1] = labels[:1, 2] = 1
    assert class_weights.of_yes("balanced", NAMES, labels) == pytest.approx((3.0, 1.0, 7.0))
    assert class_weights.of_yes("b=c=3", NAMES, labels) == (1.0, 3.0, 1.0)
    assert class_weights.of_yes("", NAMES, labels) == ()
