"""Soft targets, regression and hidden-state losses: hand numbers, a numpy re-derivation, limits, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import distillation

RANDOM = np.random.RandomState(0)
STUDENT, TEACHER = RANDOM.normal(size=(5, 3)).astype(np.float32), RANDOM.normal(size=(5, 3)).astype(np.float32)
HIDDEN_S = RANDOM.normal(size=(4, 2, 6)).astype(np.float32)
HIDDEN_T = RANDOM.normal(size=(4, 2, 6)).astype(np.float32)

# Compiled once: op by op, each of these costs seconds of compilation.
soft_target_loss = jax.jit(distillation.soft_target_loss)
regression_loss = jax.jit(distillation.regression_loss)
normalized_l2 = jax.jit(distillation.normalized_l2)
cosine_distance = jax.jit(distillation.cosine_distance)


def numpy_soft_target(student, teacher, temperature):
    """From probabilities, not log-probabilities, in float64."""
    p = np.exp(student.astype(np.float64) / temperature)
    q = np.exp(teacher.astype(np.float64) / temperature)
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return temperature**2 * (q * np.log(q / p)).sum(-1)


def check_gradient(function, x, step=1e-2, atol=2e-3):
    """Directional derivative of a float32 sum against central differences."""
    direction = np.random.RandomState(1).normal(size=x.shape).astype(np.float32)
    slope = np.vdot(np.asarray(jax.jit(jax.grad(lambda y: function(y).sum()))(jnp.asarray(x))), direction)
    plus, minus = (np.asarray(function(jnp.asarray(x + s * step * direction)), np.float64).sum() for s in (1, -1))
    np.testing.assert_allclose(slope, (plus - minus) / (2 * step), atol=atol, rtol=2e-3)


def test_soft_target_loss_by_hand():
    # Teacher (3/4, 1/4) against student (1/2, 1/2) at T = 1; T = 2 with doubled logits is 4 times as much.
    teacher, student = jnp.asarray([[np.log(3.0), 0.0]]), jnp.zeros((1, 2))
    by_hand = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(soft_target_loss(student, teacher, 1.0), [by_hand], rtol=1e-6)
    np.testing.assert_allclose(soft_target_loss(student, 2 * teacher, 2.0), [4 * by_hand], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_soft_target_loss_equals_numpy(temperature):
    # Log-probabilities near 1 are rounded to 6e-8 and their small differences multiplied by T^2: hence atol.
    got = soft_target_loss(STUDENT, TEACHER, temperature)
    np.testing.assert_allclose(
        got, numpy_soft_target(STUDENT, TEACHER, temperature), rtol=1e-5, atol=temperature**2 * 3e-7
    )
    mapped = jax.vmap(lambda s, t: soft_target_loss(s, t, temperature))(STUDENT, TEACHER)
    np.testing.assert_allclose(mapped, got, rtol=1e-5)


def test_soft_target_loss_is_zero_for_equal_logits_and_ignores_a_shift():
    assert np.abs(soft_target_loss(STUDENT, STUDENT + 3.0, 2.0)).max() < 1e-6


def test_soft_target_loss_gradient_is_scaled_difference_of_softmax():
    loss = jax.jit(jax.grad(lambda s: soft_target_loss(s, TEACHER, 2.0).sum()))
    gradient = loss(jnp.asarray(STUDENT))
    expected = 2.0 * (jax.nn.softmax(STUDENT / 2.0) - jax.nn.softmax(TEACHER / 2.0))
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    check_gradient(lambda s: soft_target_loss(s, TEACHER, 2.0), STUDENT)


def test_soft_target_loss_stays_finite_for_extreme_logits():
    student, teacher = jnp.asarray([[1e4, -1e4], [0.0, 0.0]]), jnp.asarray([[-1e4, 1e4], [1e4, -1e4]])
    loss = jax.jit(jax.value_and_grad(lambda s: soft_target_loss(s, teacher, 2.0).sum()))
    value, gradient = loss(student)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_soft_target_loss_computes_in_float32_whatever_comes_in():
    assert soft_target_loss(jnp.asarray(STUDENT, jnp.bfloat16), TEACHER, 2.0).dtype == jnp.float32


def test_teacher_gets_no_gradient():
    for function, s, t in (
        (lambda a, b: soft_target_loss(a, b, 2.0), STUDENT, TEACHER),
        (regression_loss, STUDENT[:, 0], TEACHER[:, 0]),
        (normalized_l2, HIDDEN_S, HIDDEN_T),
        (cosine_distance, HIDDEN_S, HIDDEN_T),
    ):
        assert not np.any(jax.jit(jax.grad(lambda b, f=function, a=s: f(a, b).sum()))(jnp.asarray(t)))


def test_regression_loss_is_the_squared_error_of_each_example():
    np.testing.assert_allclose(regression_loss(jnp.asarray([1.0, -2.0]), jnp.asarray([3.0, -2.0])), [4.0, 0.0])
    check_gradient(lambda p: regression_loss(p, TEACHER[:, 0]), STUDENT[:, 0])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(5,\).*\(5, 1\).*squeeze"):
        regression_loss(jnp.zeros(5), jnp.zeros((5, 1)))
    with pytest.raises(ValueError, match="same classes"):
        soft_target_loss(jnp.zeros((4, 1)), jnp.zeros((4, 3)), 2.0)
    with pytest.raises(ValueError, match="narrower student"):
        normalized_l2(jnp.zeros((4, 2, 3)), jnp.zeros((4, 2, 6)))


def test_hidden_losses_by_hand():
    # 45 degrees: cosine 1/sqrt(2); the second layer is opposite: squared distance 4, cosine distance 2.
    student, teacher = jnp.asarray([[[5.0, 0.0], [0.0, 1.0]]]), jnp.asarray([[[2.0, 2.0], [0.0, -9.0]]])
    np.testing.assert_allclose(normalized_l2(student, teacher), [(2 - np.sqrt(2) + 4) / 2], rtol=1e-6)
    np.testing.assert_allclose(cosine_distance(student, teacher), [(1 - np.sqrt(0.5) + 2) / 2], rtol=1e-6)


def test_hidden_losses_equal_numpy_and_each_other():
    s, t = HIDDEN_S.astype(np.float64), HIDDEN_T.astype(np.float64)
    cosine = np.einsum("bmh,bmh->bm", s, t) / np.linalg.norm(s, axis=-1) / np.linalg.norm(t, axis=-1)
    # ||a - b||^2 = 2 - 2 cos for unit vectors, so the two losses are one up to a factor.
    np.testing.assert_allclose(cosine_distance(HIDDEN_S, HIDDEN_T), (1 - cosine).mean(-1), rtol=1e-5)
    np.testing.assert_allclose(normalized_l2(HIDDEN_S, HIDDEN_T), (2 - 2 * cosine).mean(-1), rtol=1e-5)


@pytest.mark.parametrize("loss", [normalized_l2, cosine_distance])
def test_hidden_losses_have_true_gradients_and_none_at_a_zero_vector(loss):
    check_gradient(lambda s: loss(s, HIDDEN_T), HIDDEN_S)
    gradient = jax.jit(jax.grad(lambda s: loss(s, HIDDEN_T).sum()))(jnp.zeros_like(HIDDEN_S))
    assert not np.any(gradient)
    assert np.abs(loss(3.0 * HIDDEN_T, HIDDEN_T)).max() < 1e-6
