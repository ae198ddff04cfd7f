"""Schedules and Adams against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codir_jax.training import optimizer


def _config(**changes):
    config = optimizer.default_config()
    config.update(changes)
    return config


def test_the_linear_schedule_warms_up_and_ends_at_its_share():
    schedule = optimizer.make_schedule(_config(learning_rate=1.0, end_share=0.1), num_steps=110, warmup_steps=10)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1.0, 0.55, 0.1], atol=1e-6)


def test_the_cosine_schedule_is_half_way_at_half_time():
    schedule = optimizer.make_schedule(_config(learning_rate=1.0, schedule="cosine"), num_steps=100, warmup_steps=0)
    np.testing.assert_allclose([schedule(s) for s in (0, 50, 100)], [1.0, 0.5, 0.0], atol=1e-6)


def test_fairseq_adam_adds_eps_beside_the_uncorrected_moment():
    gradients = [0.5, -0.25, 1.0]
    b1, b2, eps = 0.9, 0.98, 1e-2  # an eps that shows
    tx = optimizer.scale_by_fairseq_adam(b1, b2, eps)
    state = tx.init(jnp.zeros(1))
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        update, state = tx.update(jnp.array([g]), state)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        expected = np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
        np.testing.assert_allclose(update[0], expected, rtol=1e-5)


def test_the_two_adams_agree_where_eps_vanishes():
    grads = jnp.array([0.3, -2.0])
    ours, theirs = optimizer.scale_by_fairseq_adam(0.9, 0.98, 0.0), optax.scale_by_adam(0.9, 0.98, 0.0)
    one, _ = ours.update(grads, ours.init(grads))
    two, _ = theirs.update(grads, theirs.init(grads))
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_matrices_decay_and_vectors_do_not_unless_asked():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    for decay_all, bias in ((False, 0.0), (True, -0.01)):
        tx = optimizer.make_optimizer(_config(weight_decay=0.1, decay_bias_and_norm=decay_all), lambda _: 0.1)
        updates, _ = tx.update(zeros, tx.init(params), params)
        np.testing.assert_allclose(updates["kernel"], -0.01, rtol=1e-5)
        np.testing.assert_allclose(updates["bias"], bias, atol=1e-7)


def test_clipping_bounds_the_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    clip = optimizer.make_optimizer(_config(clip_norm=1.0, weight_decay=0.0), lambda _: 1.0)
    free = optimizer.make_optimizer(_config(clip_norm=0.0, weight_decay=0.0), lambda _: 1.0)
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    mu = lambda tx: tx.update(grads, tx.init(params), params)[1][1].mu["b"][0]  # noqa: E731
    np.testing.assert_allclose([mu(clip), mu(free)], [0.1 * 0.8, 0.1 * 4.0], rtol=1e-5)


@pytest.mark.parametrize("changes", [{"clip_norm": -1.0}, {"weight_decay": -0.1}])
def test_negative_values_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        optimizer.check(_config(**changes))
