"""Training under compression: for any objective, what the loss sees, what is updated, and what is judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.compression import methods
from codir_jax.objectives import codir, finetune, transform
from codir_jax.objectives.contract import Step
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from codir_jax.training import optimizer
from codir_jax.training import state as states
from codir_jax.training.step import make_train_step
from tests.objectives import tiny

SETTING = tiny.setting()
BATCH = tiny.batch(SETTING)
QUERY = ("encoder", "layer_0", "attention", "query", "kernel")


def config(method, **changes):
    options = transform.default_config()
    options.update({"method": method, "mask_every_steps": 1, **changes})
    return options


def objective(method="", of=finetune, **changes):
    return transform.with_transform(of.make(of.default_config(), SETTING), config(method, **changes))


@pytest.fixture(scope="module")
def trained():
    """(first weights, state after six steps of CoDIR, metrics of the last one)."""
    one = objective("rank3@.*mlp_in/kernel+prune75", of=codir)
    params, frozen, state = unbox(jax.jit(one.init)(jax.random.key(0), BATCH))
    first = jax.tree.map(np.asarray, params["student"])
    tx = optimizer.make_optimizer(optimizer.default_config(), lambda step: 0.01)
    step = make_train_step(one, tx, num_steps=6, prng_impl="threefry2x32")
    now = states.create(params, state, tx, 0, "threefry2x32")
    for _ in range(6):
        now, metrics = step(now, frozen, BATCH)
    return first, now, metrics


def at(tree, path=QUERY):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


def test_without_a_method_the_objective_is_itself():
    plain = finetune.make(finetune.default_config(), SETTING)
    assert transform.with_transform(plain, transform.default_config()) is plain


def test_pruned_weights_stay_at_nought_and_the_rest_learns(trained):
    first, now, metrics = trained
    kernel = at(now.params["student"])
    assert (kernel == 0).mean() == 0.75
    assert (kernel != at(first))[kernel != 0].all()
    pruned, of_all = metrics["sparsity"]
    assert pruned / of_all == pytest.approx(0.75, abs=0.01)


def test_the_sparsity_grows_as_the_schedule_says():
    one = objective("prune80", begin_percent=0, end_percent=100)
    params, frozen, state = unbox(jax.jit(one.init)(jax.random.key(0), BATCH))
    loss = jax.jit(lambda progress: one.loss(params, frozen, state, BATCH, Step(None, progress)))
    for progress, expected in ((0.0, 0.0), (0.5, 0.7), (1.0, 0.8)):  # 0.8 (1 - 0.5^3) = 0.7
        _, (after, _) = loss(progress)
        assert 1 - at(after["masks"], ["/".join(QUERY)]).mean() == pytest.approx(expected, abs=0.004)


def test_masks_are_decided_anew_every_so_many_steps():
    one = objective("prune80", end_percent=100, mask_every_steps=2)
    params, frozen, state = unbox(jax.jit(one.init)(jax.random.key(0), BATCH))
    shares = []
    loss = jax.jit(lambda state, progress: one.loss(params, frozen, state, BATCH, Step(None, progress)))
    for progress in (0.2, 0.4, 0.6):
        _, (state, _) = loss(state, progress)
        shares.append(at(state["masks"], ["/".join(QUERY)]).mean())
    assert shares[0] == shares[1] > shares[2]


def test_gradients_are_masked_and_go_straight_through_codes():
    plain, coded = objective(), objective("prune50+int3", end_percent=0)
    params, frozen, state = unbox(jax.jit(coded.init)(jax.random.key(0), BATCH))
    served = coded.served(params)

    def gradient(one, params, state):
        loss = jax.value_and_grad(lambda p: one.loss(p, frozen, state, BATCH, Step(None, 1.0)), has_aux=True)
        (_, (after, _)), gradients = jax.jit(loss)(params)
        return gradients["student"], after

    (found, after), (exact, _) = gradient(coded, params, state), gradient(plain, served, {})
    mask = at(after["masks"], ["/".join(QUERY)])
    np.testing.assert_allclose(at(found), np.where(mask, at(exact), 0), atol=1e-6)
    assert not at(found)[~mask].any()


def test_what_is_judged_is_what_a_file_would_hold():
    """The whole sparsity at any step, and coded weights: as of the method that compresses at once."""
    one = objective("prune50+int4")
    params = unbox(jax.jit(one.init)(jax.random.key(0), BATCH))[0]
    weights, _ = methods.compress(jax.tree.map(np.asarray, params["student"]), methods.parse("prune50+int4"))
    expected = methods.tree_of(weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.served(params)["student"], expected)


def test_factors_are_pruned_and_learned_as_other_weights_are(trained):
    first, now, _ = trained
    path = ("encoder", "layer_0", "mlp_in", "kernel")
    for name, shape in (("factor_0", (16, 3)), ("factor_1", (3, 32))):
        part = at(now.params["student"], (*path, name))
        assert part.shape == shape and (part == 0).mean() == 0.75
        assert (part != at(first, (*path, name)))[part != 0].all()


def test_factors_are_drawn_with_the_variance_of_the_weight():
    init = jax.jit(objective("rank3@.*word/embedding").init)
    drawn = unbox(init(jax.random.key(0), BATCH))[0]["student"]["encoder"]["embeddings"]["word"]["embedding"]
    product = drawn["factor_0"] @ drawn["factor_1"]
    assert product.std() == pytest.approx(0.5, rel=0.3)  # tiny's initializer_range


def test_a_run_starts_from_the_factors_of_the_weights_that_it_is_given():
    params = jax.tree.map(np.asarray, unbox(jax.jit(objective().init)(jax.random.key(0), BATCH))[0]["student"])
    tree = transform.start(params, config("rank3"))
    init = objective("rank3").init
    boxed = jax.eval_shape(lambda: init(jax.random.key(0), BATCH))[0]["student"]
    shapes = jax.tree.map(lambda x: x.shape, unbox(boxed))
    assert jax.tree.map(jnp.shape, tree) == shapes
    assert transform.start(params, config("int8")) is params and transform.start(None, config("rank3")) is None


@pytest.mark.slow
def test_it_runs_on_a_mesh():
    one = objective("rank3+prune50+int8")
    placed = tiny.Placed.make(one, (2, 2, 2), BATCH)
    mask = placed.abstract[0].objective_state["masks"]["encoder/layer_0/mlp_in/kernel/factor_1"]
    weight = placed.abstract[0].params["student"]["encoder"]["layer_0"]["mlp_in"]["kernel"]["factor_1"]
    assert mask.sharding == weight.sharding
    placed.compile(BATCH)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "int5"}, "5 bits"),
        ({"method": "units50"}, "left out of a finished model"),
        ({"method": "int8", "begin_percent": 60.0}, "begin <= end"),
        ({"method": "prune50", "mask_every_steps": 0}, "mask_every_steps=0: expected a whole number, 1 to"),
    ],
)
def test_what_cannot_be_is_told(changes, message):
    options = config("")
    options.update(changes)
    with pytest.raises(UserError, match=message):
        transform.check(options)


def test_a_student_of_factors_is_trained_on_as_it_is():
    params = jax.tree.map(np.asarray, unbox(jax.jit(objective().init)(jax.random.key(0), BATCH))[0]["student"])
    tree = transform.start(params, config("rank3"))
    plain = finetune.make(finetune.default_config(), SETTING)
    assert transform.with_factors_of(plain, params) is plain and transform.with_factors_of(plain, None) is plain
    one = transform.with_factors_of(plain, tree)
    boxed = jax.eval_shape(lambda: one.init(jax.random.key(0), BATCH))[0]["student"]
    assert jax.tree.map(lambda x: x.shape, unbox(boxed)) == jax.tree.map(np.shape, tree)
    with pytest.raises(UserError, match="has factors already"):
        jax.eval_shape(lambda: transform.with_transform(one, config("rank2")).init(jax.random.key(0), BATCH))


def test_a_pattern_of_nothing_is_told_before_a_step():
    with pytest.raises(UserError, match="the nearest is"):
        jax.eval_shape(objective("int8@decoder/.*").init, jax.random.key(0), BATCH)
