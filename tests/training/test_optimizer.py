"""Schedules, optimizers and rules against numbers worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codir_jax.processes.user_error import UserError
from codir_jax.training import optimizer
from codir_jax.training.parameter_rules import Rule


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
        updates, _ = tx.update(zeros, tx.init(params), params, step=0)
        np.testing.assert_allclose(updates["kernel"], -0.01, rtol=1e-5)
        np.testing.assert_allclose(updates["bias"], bias, atol=1e-7)


def test_clipping_bounds_the_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    clip = optimizer.make_optimizer(_config(clip_norm=1.0, weight_decay=0.0), lambda _: 1.0)
    free = optimizer.make_optimizer(_config(clip_norm=0.0, weight_decay=0.0), lambda _: 1.0)
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    mu = lambda tx: tx.update(grads, tx.init(params), params, step=0)[1][1].mu["b"][0]  # noqa: E731
    np.testing.assert_allclose([mu(clip), mu(free)], [0.1 * 0.8, 0.1 * 4.0], rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_norm": -1.0},
        {"weight_decay": -0.1},
        {"eps": -1e-8},
        {"b1": 1.0},
        {"b2": -0.5},
        {"epoch_decay": 0.0},
        {"epoch_decay": 1.1},
        {"epoch_decay_start": -1.0},
        {"momentum": 1.0, "name": "sgd"},
        {"momentum": 0.9},  # of adamw
        {"rules": ("a",)},
        {"name": "rmsprop"},
        {"schedule": "step"},
    ],
)
def test_impossible_values_are_refused(changes):
    with pytest.raises(UserError, match=rf"optimizer\.{next(iter(changes))}"):
        optimizer.check(_config(**changes))


def test_the_rate_decays_once_an_epoch():
    """10 steps an epoch: constant for 2 epochs and the one after, then half of it with every epoch."""
    config = _config(learning_rate=0.8, schedule="per_epoch", epoch_decay_start=2.0, epoch_decay=0.5)
    schedule = optimizer.make_schedule(config, num_steps=60, warmup_steps=0, steps_per_epoch=10)
    steps = [0, 19, 20, 29, 30, 39, 40, 59]
    expected = [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.1]
    np.testing.assert_allclose([schedule(step) for step in steps], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.array(steps)), expected, rtol=1e-6)


def test_after_a_warm_up_epochs_are_counted_from_the_first_step_of_the_run():
    config = _config(learning_rate=0.8, schedule="per_epoch", epoch_decay_start=0.5, epoch_decay=0.5)
    schedule = optimizer.make_schedule(config, num_steps=60, warmup_steps=4, steps_per_epoch=10)
    expected = {0: 0.0, 2: 0.4, 4: 0.8, 14: 0.8, 15: 0.4, 24: 0.4, 25: 0.2}
    np.testing.assert_allclose([schedule(step) for step in expected], list(expected.values()), rtol=1e-6)


def test_a_million_steps_do_not_move_the_end_of_an_epoch():
    config = _config(learning_rate=1.0, schedule="per_epoch", epoch_decay_start=0.0, epoch_decay=0.5)
    schedule = jax.jit(optimizer.make_schedule(config, 10**8, 0, steps_per_epoch=33_333_333))
    np.testing.assert_allclose([schedule(66_666_665), schedule(66_666_666)], [0.5, 0.25])


def test_the_per_epoch_schedule_needs_to_know_an_epoch():
    with pytest.raises(ValueError, match="needs steps_per_epoch"):
        optimizer.make_schedule(_config(schedule="per_epoch"), num_steps=10, warmup_steps=0)


def test_sgd_steps_down_the_gradient():
    """Step 0: m = 1; step 1: m = 0.5 * 1 + 2; without momentum the gradient itself."""
    params, rates = {"kernel": jnp.array([[1.0]])}, lambda step: 0.1 * (step + 1)
    for momentum, sizes in ((0.5, (1.0, 2.5)), (0.0, (1.0, 2.0))):
        config = _config(name="sgd", momentum=momentum, clip_norm=0.0, weight_decay=0.0)
        tx = optimizer.make_optimizer(config, rates)
        state = tx.init(params)
        assert len(jax.tree.leaves(state)) == (1 if momentum else 0)
        for step, (gradient, size) in enumerate(zip((1.0, 2.0), sizes, strict=True)):
            updates, state = tx.update({"kernel": jnp.array([[gradient]])}, state, params, step=step)
            np.testing.assert_allclose(updates["kernel"], [[-0.1 * (step + 1) * size]], rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_optax(momentum):
    params = {"kernel": jnp.linspace(-1, 1, 6).reshape(2, 3), "bias": jnp.ones(3)}
    ours = optimizer.make_optimizer(
        _config(name="sgd", momentum=momentum, clip_norm=0.0, weight_decay=0.0), lambda step: 0.1 / (1 + step)
    )
    theirs = optax.sgd(lambda step: 0.1 / (1 + step), momentum=momentum or None)
    one, two = ours.init(params), theirs.init(params)
    for step in range(4):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p * (step + 1)), params)
        left, one = ours.update(grads, one, params, step=step)
        right, two = theirs.update(grads, two, params)
        jax.tree.map(np.testing.assert_array_equal, left, right)


def _params():
    """With biases of a group of projections, [groups, dim]."""
    shapes = {
        "projection_student": {"kernel": (1, 3, 5), "bias": (1, 5)},
        "student": {
            "layer": {"kernel": (3, 3), "bias": (3,)},
            "norm": {"scale": (3,), "bias": (3,)},
            "word": {"embedding": (7, 3)},
            "decoder_bias": (7,),
        },
    }
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda s: jnp.sin(1.0 + jnp.arange(math.prod(s))).reshape(s), shapes, is_leaf=is_shape)


def _grads(params, step):
    return jax.tree.map(lambda p: jnp.cos(7.0 * p + step), params)


@pytest.mark.parametrize("name", ["adamw", "adam"])
@pytest.mark.parametrize("decays_all", [False, True])
def test_without_rules_the_updates_are_bit_equal_to_the_chain_of_optax(name, decays_all):
    """Apart from the projections' biases, [groups, dim], which a look at the shape lets decay."""
    params = _params()
    config = _config(name=name, decay_bias_and_norm=decays_all)
    schedule = optimizer.make_schedule(config, 20, 3)
    scale = {"adamw": optax.scale_by_adam, "adam": optimizer.scale_by_fairseq_adam}[name]
    shaped = lambda tree: jax.tree_util.tree_map_with_path(  # noqa: E731
        lambda keys, p: p.ndim > 1 and keys[-1].key != "bias", tree
    )
    theirs = optax.chain(
        optimizer.clip(1.0),
        scale(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(0.01, mask=None if decays_all else shaped),
        optax.scale_by_learning_rate(schedule),
    )
    ours = optimizer.make_optimizer(config, schedule)
    one, two = ours.init(params), theirs.init(params)
    assert jax.tree.structure(one[1]) == jax.tree.structure(two[1])
    assert len(jax.tree.leaves(one)) == len(jax.tree.leaves(two)) - 1  # the count of the schedule
    for step in range(5):
        grads = _grads(params, step)
        left, one = jax.jit(ours.update)(grads, one, params, step=jnp.int32(step))
        right, two = jax.jit(theirs.update)(grads, two, params)
        jax.tree.map(np.testing.assert_array_equal, left, right)
        jax.tree.map(np.testing.assert_array_equal, one[1], two[1])


@pytest.mark.parametrize("size", [0.0, 1e-3, 3.0])
def test_clipping_is_that_of_optax(size):
    grads = jax.tree.map(lambda p: size * p, _grads(_params(), 0))
    ours, _ = optimizer.clip(1.0).update(grads, optax.EmptyState())
    theirs, _ = optax.clip_by_global_norm(1.0).update(grads, optax.EmptyState())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_weight_decay_leaves_the_biases_of_the_projections_alone():
    params = _params()
    tx = optimizer.make_optimizer(_config(weight_decay=0.1), lambda _: 0.1)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params, step=0)
    updates, params = updates["projection_student"], params["projection_student"]
    assert not np.any(updates["bias"])
    np.testing.assert_allclose(updates["kernel"], -0.01 * params["kernel"], rtol=1e-6)


def test_rules_by_hand():
    """SGD at rate 0.1, gradient 1, parameters 2: p - rate * factor * (1 + decay * p)."""
    names = ("kernel", "bias")
    params = {part: {name: jnp.full((1, 1), 2.0) for name in names} for part in ("plain", "fast", "heavy", "frozen")}
    grads = jax.tree.map(jnp.ones_like, params)
    rules = ("plain/.*: rate=1", "fast/.*: rate=3", "heavy/.*: rate=0.5 decay=0.25", "frozen/.*: frozen")
    config = _config(name="sgd", clip_norm=0.0, weight_decay=0.5, rules=rules)
    expected = {
        "plain": {"kernel": -0.1 * (1 + 0.5 * 2), "bias": -0.1},
        "fast": {"kernel": -0.3 * (1 + 0.5 * 2), "bias": -0.3},
        "heavy": {"kernel": -0.05 * (1 + 0.25 * 2), "bias": -0.05 * (1 + 0.25 * 2)},  # said, so biases too
        "frozen": {"kernel": 0.0, "bias": 0.0},
    }
    pairs = (("plain/.*", Rule()), ("fast/.*", Rule(3.0)), ("heavy/.*", Rule(0.5, 0.25)), ("frozen/.*", None))
    for options in ({}, {"pairs": pairs}):
        tx = optimizer.make_optimizer(config, lambda _: 0.1, **options)
        updates, _ = tx.update(grads, tx.init(params), params, step=0)
        jax.tree.map(lambda u, e: np.testing.assert_allclose(u, e, rtol=1e-6), updates, expected)


def test_of_frozen_parameters_nothing_is_kept_and_nothing_is_clipped():
    """||g|| is 4 over the trained ones and 5 over all, so that clipping to 1 divides by 4."""
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    tx = optimizer.make_optimizer(_config(rules=("a: frozen", "b: rate=1"), weight_decay=0.0), lambda _: 1.0)
    state = tx.init(params)
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [(), (1,), (1,)]  # count, mu and nu of b
    assert isinstance(state[1].mu["a"], optax.MaskedNode)
    updates, state = tx.update(grads, state, params, step=0)
    np.testing.assert_allclose(state[1].mu["b"], 0.1 * 1.0, rtol=1e-6)
    np.testing.assert_array_equal(updates["a"], np.zeros(2))


def test_rules_that_do_not_fit_the_parameters_are_refused_before_an_array_is_made():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    tx = optimizer.make_optimizer(_config(rules=("a: frozen",)), lambda _: 1.0)
    with pytest.raises(UserError, match="no pattern matches the parameter 'b'"):
        jax.eval_shape(tx.init, params)


def test_bad_pairs_are_refused():
    with pytest.raises(UserError, match="rate=0 of 'a'"):
        optimizer.make_optimizer(_config(), lambda _: 1.0, pairs=(("a", Rule(0)),))


def test_an_update_needs_its_step():
    params = {"kernel": jnp.ones((2, 2))}
    tx = optimizer.make_optimizer(_config(), lambda _: 1.0)
    with pytest.raises(TypeError, match=r"needs step=state\.step"):
        tx.update(params, tx.init(params), params)


def test_a_schedule_of_points_is_linear_between_them_and_jumps_where_one_comes_twice():
    config = _config(learning_rate=2.0, schedule="points", points="0%:1 75%:0.2 75%:1 100%:0")
    schedule = optimizer.make_schedule(config, num_steps=100, warmup_steps=10)
    expected = [0, 1, 2 * (1 - 0.8 * 10 / 75), 2 * (1 - 0.8 * 74 / 75), 2.0, 2 * 10 / 25]
    np.testing.assert_allclose([schedule(step) for step in (0, 5, 10, 74, 75, 90)], expected, rtol=1e-5)
    with pytest.raises(UserError, match="points like 10%:1"):
        optimizer.check(_config(schedule="points", points="1,0"))


def test_the_rate_of_another_width_is_in_inverse_proportion():
    config = _config(learning_rate=1e-4, of_width=768)
    rates = {width: optimizer.for_width(config, width).learning_rate for width in (384, 768, 1024)}
    assert rates == {384: pytest.approx(2e-4), 768: pytest.approx(1e-4), 1024: pytest.approx(7.5e-5)}
    assert optimizer.for_width(config, 384).of_width == 0 and config.learning_rate == 1e-4  # once, and not in place
    assert optimizer.for_width(_config(learning_rate=1e-4), 384).learning_rate == 1e-4
