"""The released noise-contrastive loss: two golden steps with banks, a numpy re-derivation, limits, masks, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import contrastive, nce
from codir_jax.negatives import memory_bank

RANDOM = np.random.RandomState(0)
SCORES = RANDOM.uniform(-8, 8, (5, 8)).astype(np.float32)
MASK = RANDOM.uniform(size=(5, 7)) < 0.6
NUM_EXAMPLES, LOG_Z = 200, 6.5
TEMPERATURE = 0.07
ROWS = jnp.asarray([[1, 0, 2, 3], [4, 7, 8, 9]])


def lin(shape, a=1.0, b=0.0):
    """The closed-form array of the golden numbers: element k = 1, 2, ... is a * sin(0.37 k + b)."""
    return (a * np.sin(0.37 * np.arange(1, np.prod(shape) + 1) + b)).reshape(shape).astype(np.float32)


def numpy_nce(scores, log_normaliser, num_examples, eps=1e-7):
    """As the released code writes it: exponentials, ratios, logs; float64."""
    o = np.exp(scores.astype(np.float64)) / np.exp(log_normaliser)
    c = (scores.shape[1] - 1) / num_examples
    return -np.log(o[:, :1] / (o[:, :1] + c + eps)).sum(1) - np.log(c / (o[:, 1:] + c + eps)).sum(1)


def released_loss(inputs, banks, log_normalisers=None):
    """L_CRD of the released code for the closed-form example; banks = (student M1, teacher M2)."""
    v_s = contrastive.unit_rows(inputs["f_s"] @ inputs["w_s"].T + lin(4, a=0.1, b=0.2))
    v_t = contrastive.unit_rows(inputs["f_t"] @ inputs["w_t"].T + lin(4, a=0.1, b=0.4))
    scores_s = memory_bank.row_scores(v_s, memory_bank.lookup(banks[1], ROWS)) / TEMPERATURE
    scores_t = memory_bank.row_scores(v_t, memory_bank.lookup(banks[0], ROWS)) / TEMPERATURE
    if log_normalisers is None:
        log_normalisers = tuple(nce.log_normaliser_estimate(s, 10) for s in (scores_s, scores_t))
    losses = [nce.released_nce(s, z, 10, 3).mean() for s, z in zip((scores_s, scores_t), log_normalisers, strict=True)]
    return sum(losses) / 2, (log_normalisers, v_s, v_t)


# Compiled once: op by op, each of these costs seconds of compilation.
nce_loss = jax.jit(nce.released_nce, static_argnums=(2, 3))
log_normaliser_estimate = jax.jit(nce.log_normaliser_estimate, static_argnums=1)
next_log_normaliser = jax.jit(nce.next_log_normaliser)
bank_update = jax.jit(memory_bank.update)


def test_released_loss_meets_the_closed_form_golden_for_two_steps():
    inputs = {
        "w_s": lin((4, 6), b=0.1),
        "w_t": lin((4, 8), b=0.3),
        "f_s": lin((2, 6), b=0.7),
        "f_t": lin((2, 8), b=0.8),
    }
    banks = (jnp.asarray(lin((10, 4), a=0.5, b=0.5)), jnp.asarray(lin((10, 4), a=0.5, b=0.6)))
    ids = jnp.asarray([1, 4])
    step = jax.jit(jax.value_and_grad(released_loss, has_aux=True))
    (loss, (log_z, v_s, v_t)), gradient = step(inputs, banks)
    np.testing.assert_allclose(loss, 3.4444797, rtol=1e-6)
    np.testing.assert_allclose(np.exp(np.asarray(log_z)), [80.856926, 37.710701], rtol=2e-6)
    expected = [-0.04827674, -0.03306748, -0.01338267, 0.00811340, 0.02851138, 0.04505047]
    np.testing.assert_allclose(gradient["f_s"][0], expected, atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(gradient["w_t"]), 0.7594491, rtol=1e-6)

    banks = tuple(bank_update(b, ids, v, 0.5) for b, v in zip(banks, (v_s, v_t), strict=True))
    np.testing.assert_allclose(banks[0][1], [0.8402933, 0.0395574, -0.3074881, 0.4447398], atol=1e-6)
    np.testing.assert_allclose(banks[1][4], [-0.2011618, 0.7079800, 0.0180085, 0.6767378], atol=1e-6)
    (loss, _), _ = step(inputs, banks, log_z)
    np.testing.assert_allclose(loss, 1.9837520, rtol=1e-6)


@pytest.mark.parametrize("num_examples", [20, 1000, 17_000_000])
def test_nce_equals_numpy_as_released(num_examples):
    log_z = 1.0 + np.log(num_examples)
    got = nce_loss(SCORES, log_z, num_examples, 7)
    np.testing.assert_allclose(got, numpy_nce(SCORES, log_z, num_examples), rtol=1e-5)
    mapped = jax.vmap(lambda s: nce_loss(s, log_z, num_examples, 7))(SCORES)
    np.testing.assert_allclose(mapped, got, rtol=1e-5)


def test_nce_keeps_the_released_epsilon():
    # c = 7 / 17e6 = 4.1e-7: eps is a quarter of it and moves the loss by far more than the tolerance.
    log_z = 1.0 + np.log(17_000_000)
    without = numpy_nce(SCORES, log_z, 17_000_000, eps=0.0)
    assert np.abs(nce_loss(SCORES, log_z, 17_000_000, 7) / without - 1).min() > 1e-3


@pytest.mark.parametrize(("num_negatives", "expected"), [(1, None), (3, None), (100, 5.610)])
def test_nce_of_uniform_probabilities_has_the_closed_form(num_negatives, expected):
    # o = 1/N everywhere: score 0 and Z = N; c = K/N is large beside eps.
    loss = nce_loss(jnp.zeros((2, 1 + num_negatives)), np.log(50.0), 50, num_negatives)
    k = num_negatives
    np.testing.assert_allclose(loss, np.log(1 + k) + k * np.log(1 + 1 / k), rtol=1e-5)
    if expected:
        np.testing.assert_allclose(loss, expected, atol=5e-4)


def test_nce_stays_finite_and_right_at_the_extremes():
    # Cosine +-1 at temperature 0.01: raw exponentials would be e^100 and e^-100, far outside float32.
    scores = jnp.asarray([[100.0, -100.0], [-100.0, 100.0]])
    value, vjp = jax.vjp(lambda s: nce_loss(s, np.log(10.0), 10, 1), scores)
    (gradient,) = vjp(jnp.ones(2))
    np.testing.assert_allclose(value, [1e-6, 200.0], rtol=1e-5)  # log1p(eps / c); 2 * 100 +- log(Z c) cancel
    np.testing.assert_allclose(gradient, [[0.0, 0.0], [-1.0, 1.0]], atol=1e-6)


def test_nce_gradient_equals_finite_differences_and_z_is_constant():
    gradient = jax.grad(lambda s: nce_loss(s, LOG_Z, NUM_EXAMPLES, 7).sum())(jnp.asarray(SCORES))
    step, scores = 1e-5, SCORES.astype(np.float64)
    for k in range(scores.shape[1]):
        shift = step * np.eye(scores.shape[1])[k]
        plus, minus = (numpy_nce(scores + s * shift, LOG_Z, NUM_EXAMPLES) for s in (1, -1))
        np.testing.assert_allclose(gradient[:, k], (plus - minus) / (2 * step), atol=1e-5)
    assert jax.grad(lambda z: nce_loss(SCORES, z, NUM_EXAMPLES, 7).sum())(LOG_Z) == 0.0


def test_nce_mask_drops_noise_rows_and_their_gradient():
    terms = nce_loss(SCORES, LOG_Z, NUM_EXAMPLES, 7, MASK)
    o, c = np.exp(SCORES.astype(np.float64) - LOG_Z), 7 / NUM_EXAMPLES
    expected = -np.log(o[:, 0] / (o[:, 0] + c + 1e-7)) - (np.log(c / (o[:, 1:] + c + 1e-7)) * MASK).sum(1)
    np.testing.assert_allclose(terms, expected, rtol=1e-5)
    np.testing.assert_allclose(
        nce_loss(SCORES, LOG_Z, NUM_EXAMPLES, 7, np.ones_like(MASK)),
        nce_loss(SCORES, LOG_Z, NUM_EXAMPLES, 7),
        rtol=1e-6,
    )
    gradient = jax.grad(lambda s: nce_loss(s, LOG_Z, NUM_EXAMPLES, 7, MASK).sum())(jnp.asarray(SCORES))
    assert not np.any(np.asarray(gradient)[:, 1:][~MASK])


def test_nce_of_a_fully_masked_row_is_zero_without_gradient_even_if_nan_is_masked():
    scores = jnp.asarray(SCORES).at[0].set(jnp.nan).at[1, 1].set(jnp.inf)
    mask = jnp.ones(MASK.shape, bool).at[0].set(False).at[1, 0].set(False)
    loss, vjp = jax.vjp(lambda s: nce_loss(s, LOG_Z, NUM_EXAMPLES, 7, mask), scores)
    (gradient,) = vjp(jnp.ones(5))
    assert loss[0] == 0.0 and not np.any(gradient[0])
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()


def test_log_normaliser_estimate_is_the_mean_times_the_number_of_rows():
    expected = np.log(np.exp(SCORES.astype(np.float64)).mean() * NUM_EXAMPLES)
    np.testing.assert_allclose(log_normaliser_estimate(SCORES, NUM_EXAMPLES), expected, rtol=1e-6)
    rows = np.array([1, 0, 1, 1, 0], np.float32)
    expected = np.log(np.exp(SCORES[rows > 0].astype(np.float64)).mean() * NUM_EXAMPLES)
    masked = jax.jit(lambda s, m: log_normaliser_estimate(s, NUM_EXAMPLES, m))
    np.testing.assert_allclose(masked(SCORES, rows), expected, rtol=1e-6)
    entries = np.concatenate([np.ones((5, 1), bool), MASK], 1)
    expected = np.log(np.exp(SCORES.astype(np.float64))[entries].mean() * NUM_EXAMPLES)
    np.testing.assert_allclose(masked(SCORES, entries), expected, rtol=1e-6)
    np.testing.assert_allclose(masked(SCORES, np.zeros(5)), np.log(NUM_EXAMPLES), rtol=1e-6)
    np.testing.assert_allclose(masked(SCORES + 1000.0, np.ones(5)), masked(SCORES, np.ones(5)) + 1000.0, rtol=1e-6)


def test_next_log_normaliser_is_set_once_or_averages_z():
    first = next_log_normaliser(-jnp.inf, jnp.log(20.0), 0.99)
    np.testing.assert_allclose(first, np.log(20.0), rtol=1e-6)
    np.testing.assert_allclose(next_log_normaliser(first, jnp.log(30.0), 0.9), np.log(21.0), rtol=1e-6)
    assert next_log_normaliser(first, jnp.log(30.0), 1.0) == first
