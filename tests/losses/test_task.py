"""The loss of several labels a text against torch's numbers and its soft targets against those of one class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import distillation
from codir_jax.losses.task import several_labels_loss

LOGITS = np.array([[1.5, -0.5, 0.25], [-2.0, 3.0, 0.0]], np.float32)
LABELS = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], np.float32)
TEACHER = np.array([[0.5, -1.0, 2.0], [-1.0, 1.0, 0.5]], np.float32)
# torch 2: BCEWithLogitsLoss(reduction="none").mean(1), without and with pos_weight, and the gradient of its sum.
PLAIN = [0.41714322566986084, 0.2895542085170746]
POSITIVE_WEIGHTS = np.array([2.0, 0.5, 3.0], np.float32)
WEIGHTED = [0.8682405948638916, 0.743554413318634]
GRADIENT = [
    [-0.12161704152822495, 0.12584689259529114, -0.43782347440719604],
    [0.039734307676553726, -0.007904311642050743, -0.5],
]
# T^2 torch.distributions.kl_divergence(Bernoulli(logits=teacher / T), Bernoulli(logits=student / T)).mean(1), T = 2.
SOFT = [0.1617790311574936, 0.18744514882564545]


def test_the_loss_and_its_gradient_are_torchs():
    assert several_labels_loss(LOGITS, LABELS) == pytest.approx(PLAIN, rel=1e-6)
    total = lambda logits: several_labels_loss(logits, LABELS, POSITIVE_WEIGHTS).sum()  # noqa: E731
    assert several_labels_loss(LOGITS, LABELS, POSITIVE_WEIGHTS) == pytest.approx(WEIGHTED, rel=1e-6)
    np.testing.assert_allclose(jax.grad(total)(LOGITS), GRADIENT, rtol=1e-5)


def test_the_soft_target_is_torchs_and_of_one_class_that_of_two_outputs():
    soft = distillation.binary_soft_target_loss(LOGITS, TEACHER, 2.0)
    assert soft == pytest.approx(SOFT, rel=1e-5)
    pair = [np.stack([z, np.zeros_like(z)], axis=-1) for z in (LOGITS, TEACHER)]
    np.testing.assert_allclose(soft, distillation.soft_target_loss(*pair, 2.0).mean(-1), rtol=1e-5)


def test_both_are_finite_however_sure_a_model_is():
    logits, labels = jnp.asarray([[300.0, -300.0]]), jnp.asarray([[0.0, 1.0]])
    assert several_labels_loss(logits, labels) == pytest.approx([300.0])
    value, gradient = jax.value_and_grad(lambda z: distillation.binary_soft_target_loss(z, -logits, 1.0).sum())(logits)
    assert float(value) == pytest.approx(300.0) and np.isfinite(gradient).all()
    assert float(distillation.binary_soft_target_loss(logits, logits, 1.0)[0]) == 0.0
