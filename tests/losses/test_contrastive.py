"""InfoNCE, the contrast of several positives and companions: golden numbers, numpy, limits, masks, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import contrastive

RANDOM = np.random.RandomState(0)
POSITIVE = RANDOM.uniform(-1, 1, 5).astype(np.float32)
NEGATIVES = RANDOM.uniform(-1, 1, (5, 7)).astype(np.float32)
MASK = RANDOM.uniform(size=(5, 7)) < 0.6

# Compiled once: op by op, each of these costs seconds of compilation.
info_nce = jax.jit(lambda p, n, mask, temperature: contrastive.info_nce(p, [(n, mask)], temperature))
ranks_first = jax.jit(lambda p, n, mask: contrastive.ranks_first(p, [(n, mask)]))
alignment, uniformity = (
    jax.jit(contrastive.alignment),
    jax.jit(lambda v, mask: contrastive.uniformity(v, mask, v, mask)),
)
unit_rows = jax.jit(contrastive.unit_rows)


def lin(shape, a=1.0, b=0.0):
    """The closed-form array of the golden numbers: element k = 1, 2, ... is a * sin(0.37 k + b)."""
    return (a * np.sin(0.37 * np.arange(1, np.prod(shape) + 1) + b)).reshape(shape).astype(np.float32)


def numpy_info_nce(positive, negatives, mask, temperature):
    """Softmax cross entropy from shifted exponentials in float64, row by row."""
    losses = []
    for p, row, usable in zip(positive.astype(np.float64), negatives.astype(np.float64), mask, strict=True):
        scores = np.concatenate([[p], row[usable]]) / temperature
        weights = np.exp(scores - scores.max())
        losses.append(-np.log(weights[0] / weights.sum()))
    return np.array(losses)


@pytest.mark.parametrize(("temperature", "expected"), [(0.07, 1.7734141), (0.5, 1.1423870)])
def test_info_nce_meets_the_closed_form_golden(temperature, expected):
    v_s = unit_rows(lin((2, 6), b=0.7) @ lin((4, 6), b=0.1).T + lin(4, a=0.1, b=0.2))
    v_t = unit_rows(lin((2, 8), b=0.8) @ lin((4, 8), b=0.3).T + lin(4, a=0.1, b=0.4))
    rows = lin((10, 4), a=0.5, b=0.6)[np.array([[0, 2, 3], [7, 8, 9]])]
    negatives = jnp.einsum("bd,bkd->bk", v_s, rows)
    loss = info_nce(jnp.sum(v_s * v_t, -1), negatives, None, temperature)
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
def test_info_nce_equals_numpy_with_and_without_a_mask(temperature):
    every = np.ones_like(MASK)
    got = info_nce(POSITIVE, NEGATIVES, None, temperature)
    np.testing.assert_allclose(got, numpy_info_nce(POSITIVE, NEGATIVES, every, temperature), rtol=1e-5, atol=1e-6)
    got = info_nce(POSITIVE, NEGATIVES, MASK, temperature)
    np.testing.assert_allclose(got, numpy_info_nce(POSITIVE, NEGATIVES, MASK, temperature), rtol=1e-5, atol=1e-6)
    mapped = jax.vmap(lambda p, n, m: info_nce(p, n, m, temperature))(POSITIVE, NEGATIVES, MASK)
    np.testing.assert_allclose(mapped, got, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_negatives", [1, 7, 100])
@pytest.mark.parametrize("cosine", [-1.0, 0.0, 0.9])
def test_info_nce_of_equal_scores_is_log_of_one_plus_k(num_negatives, cosine):
    loss = info_nce(jnp.full(3, cosine), jnp.full((3, num_negatives), cosine), None, 0.07)
    np.testing.assert_allclose(loss, np.log(1 + num_negatives), rtol=1e-6)


def test_info_nce_stays_finite_and_right_at_the_extremes():
    positive, negatives = jnp.asarray([1.0, -1.0]), jnp.asarray([[-1.0, -1.0], [1.0, 1.0]])
    value, vjp = jax.vjp(lambda p, n: info_nce(p, n, None, 0.01), positive, negatives)
    np.testing.assert_allclose(value, [0.0, 200.0 + np.log(2)], rtol=1e-6, atol=1e-30)
    d_positive, d_negatives = vjp(jnp.ones(2))
    np.testing.assert_allclose(d_positive, [0.0, -100.0], atol=1e-4)
    np.testing.assert_allclose(d_negatives, [[0.0, 0.0], [50.0, 50.0]], atol=1e-4)


def test_info_nce_gradient_is_softmax_minus_one_hot_and_equals_finite_differences():
    temperature = 0.5
    d_positive, d_negatives = jax.grad(lambda p, n: info_nce(p, n, MASK, temperature).sum(), argnums=(0, 1))(
        jnp.asarray(POSITIVE), jnp.asarray(NEGATIVES)
    )

    def loss(positive, negatives):
        return numpy_info_nce(positive, negatives, MASK, temperature)

    step = 1e-5
    p, n = POSITIVE.astype(np.float64), NEGATIVES.astype(np.float64)
    np.testing.assert_allclose(d_positive, (loss(p + step, n) - loss(p - step, n)) / (2 * step), atol=1e-5)
    for k in range(n.shape[1]):
        shift = step * np.eye(n.shape[1])[k]
        by_difference = (loss(p, n + shift) - loss(p, n - shift)) / (2 * step)
        np.testing.assert_allclose(d_negatives[:, k], by_difference, atol=1e-5)
    assert not np.any(np.asarray(d_negatives)[~MASK])


def test_info_nce_of_a_fully_masked_row_is_zero_without_gradient_even_if_nan_is_masked():
    negatives = jnp.asarray(NEGATIVES).at[0].set(jnp.nan).at[1, 0].set(jnp.inf)
    mask = jnp.ones(MASK.shape, bool).at[0].set(False).at[1, 0].set(False)
    loss, vjp = jax.vjp(lambda p, n: info_nce(p, n, mask, 0.07), jnp.asarray(POSITIVE), negatives)
    d_positive, d_negatives = vjp(jnp.ones(5))
    assert loss[0] == 0.0 and d_positive[0] == 0.0 and not np.any(d_negatives[0])
    assert np.isfinite(loss).all() and np.isfinite(d_positive).all() and np.isfinite(d_negatives).all()


def test_ranks_first_needs_a_strict_win_among_usable_negatives():
    positive = jnp.asarray([0.5, 0.5, 0.5, 0.5])
    negatives = jnp.asarray([[0.1, 0.4], [0.1, 0.6], [0.1, 0.5], [0.1, 0.4]])
    np.testing.assert_array_equal(ranks_first(positive, negatives, None), [1, 0, 0, 1])
    mask = jnp.asarray([[True, True], [True, False], [True, True], [False, False]])
    np.testing.assert_array_equal(ranks_first(positive, negatives, mask), [1, 1, 0, 1])


def test_sources_apart_are_the_sources_joined():
    halves = [(NEGATIVES[:, :3], MASK[:, :3]), (NEGATIVES[:, 3:], MASK[:, 3:])]
    apart = jax.value_and_grad(lambda p: contrastive.info_nce(p, halves, 0.07).sum())(jnp.asarray(POSITIVE))
    joined = jax.value_and_grad(lambda p: info_nce(p, NEGATIVES, MASK, 0.07).sum())(jnp.asarray(POSITIVE))
    for ours, theirs in zip(apart, joined, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(contrastive.ranks_first(POSITIVE, halves), ranks_first(POSITIVE, NEGATIVES, MASK))


def test_alignment_and_uniformity_equal_numpy():
    v = np.asarray(unit_rows(RANDOM.normal(size=(6, 4))))
    w = np.asarray(unit_rows(RANDOM.normal(size=(6, 4))))
    np.testing.assert_allclose(alignment(v, w), np.linalg.norm(v - w, axis=-1) ** 2, rtol=1e-5)
    mask = np.array([1, 1, 0, 1, 0, 1], np.float32)
    real = v[mask > 0].astype(np.float64)
    pairs = [np.exp(-2 * np.sum((a - b) ** 2)) for i, a in enumerate(real) for j, b in enumerate(real) if i != j]
    np.testing.assert_allclose(uniformity(v, mask), np.log(np.mean(pairs)), rtol=1e-5)


def test_uniformity_limits():
    np.testing.assert_allclose(uniformity(jnp.ones((4, 4)) / 2, jnp.ones(4)), 0.0, atol=1e-6)
    opposite = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(uniformity(opposite, jnp.ones(2)), -8.0, rtol=1e-6)
    gradient = jax.jit(jax.grad(uniformity))(opposite, jnp.asarray([1.0, 0.0]))
    assert uniformity(opposite, jnp.asarray([1.0, 0.0])) == 0.0 and not np.any(gradient)


def test_unit_rows_of_a_zero_row_are_zero_without_gradient():
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit_rows(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    gradient = jax.grad(lambda y: unit_rows(y)[:, 0].sum())(x)
    # d(x / n) = (1 - x^2 / n^2) / n = 0.128 and -x y / n^3 = -0.096
    np.testing.assert_allclose(gradient, [[0.128, -0.096], [0.0, 0.0]], rtol=1e-5)


@functools.partial(jax.jit, static_argnums=(2, 3))
def contrast_of_classes(features, labels, temperature, base_temperature=0.07):
    """The loss of SupCL-Seq: mean over all views of float [B, N, D], times temperature / base_temperature."""
    views = contrastive.unit_rows(features).reshape(-1, features.shape[-1])
    labels = jnp.repeat(labels, features.shape[1])
    is_candidate = ~jnp.eye(len(views), dtype=bool)
    is_positive = (labels[:, None] == labels) & is_candidate
    losses = contrastive.supervised_contrast(views @ views.T, is_positive, is_candidate, temperature)
    return temperature / base_temperature * losses.mean()


@pytest.mark.parametrize(
    ("labels", "temperature", "expected"),
    [((0, 1, 0, 1), 0.05, 16.1186466), ((0, 1, 0, 1), 0.5, 24.8068066), ((0, 1, 2, 3), 0.5, 28.3173733)],
)
def test_the_contrast_of_several_positives_meets_the_released_one(labels, temperature, expected):
    features, labels = lin((4, 3, 5), b=1.3), jnp.array(labels)
    np.testing.assert_allclose(contrast_of_classes(features, labels, temperature), expected, rtol=1e-6)
    order, views = jnp.array([3, 1, 0, 2]), jnp.array([2, 0, 1])
    again = contrast_of_classes(features[order][:, views], labels[order], temperature)
    np.testing.assert_allclose(again, expected, rtol=1e-6)


def test_limits_of_the_contrast_of_several_positives():
    alike = jnp.broadcast_to(lin((1, 1, 5)), (4, 3, 5))
    for labels in ((0, 0, 0, 0), (0, 1, 0, 1)):
        value = contrast_of_classes(alike, jnp.array(labels), 0.05, 0.05)
        np.testing.assert_allclose(value, np.log(4 * 3 - 1), rtol=1e-5)
    # Two classes at opposite points: the floor, the log of the number of positives.
    apart = jnp.concatenate([alike[:2], -alike[:2]])
    value, gradient = jax.value_and_grad(contrast_of_classes)(apart, jnp.array([0, 0, 1, 1]), 0.05, 0.05)
    np.testing.assert_allclose(value, np.log(2 * 3 - 1), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_an_anchor_without_a_positive_has_no_loss_and_no_gradient():
    cosines = jnp.asarray(NEGATIVES).at[0].set(jnp.nan)
    is_positive = jnp.asarray(MASK).at[0].set(False)

    def total(cosines):
        losses = contrastive.supervised_contrast(cosines, is_positive, jnp.ones(MASK.shape, bool), 0.05)
        return losses.sum(), losses

    gradient, loss = jax.jit(jax.grad(total, has_aux=True))(cosines)
    assert loss[0] == 0 and not np.any(gradient[0])
    assert np.isfinite(loss).all() and np.isfinite(gradient).all() and np.all(loss[1:] > 0)
