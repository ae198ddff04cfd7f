"""The compiled step: buffers are used again, the rate is that of the step, frozen parameters stay."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codir_jax.objectives import distill
from codir_jax.objectives.contract import Objective
from codir_jax.processes.fields import MAX_SEED
from codir_jax.sharding import mesh as meshes
from codir_jax.sharding import placement, rules
from codir_jax.stage.initial_state import INIT, InitialState
from codir_jax.training import checkpoint, optimizer
from codir_jax.training import state as state_lib
from codir_jax.training.step import make_train_step
from tests.objectives import tiny


def test_the_state_is_donated_and_the_compiler_writes_into_its_buffers():
    setting = tiny.setting()
    objective = distill.make(distill.default_config(), setting)
    batch = tiny.batch(setting)
    params, frozen, objective_state = tiny.start(objective, batch)
    tx = optax.adamw(1e-3)
    state = state_lib.create(params, objective_state, tx, 0, "threefry2x32")
    step_fn = make_train_step(objective, tx, num_steps=10, prng_impl="threefry2x32")

    trained = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    memory = step_fn.lower(state, frozen, batch).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= trained

    before, teacher = jax.tree.leaves(state.params), jax.tree.leaves(frozen)
    step_fn(state, frozen, batch)
    assert all(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in teacher)


def test_after_a_skipped_update_rate_and_progress_are_those_of_the_step():
    """SGD on a loss with gradient 1: each step moves by the rate of its number, of the skipped one too."""

    def loss(params, frozen, objective_state, batch, at):
        value = jnp.sum(params["w"]) * batch
        return value, (objective_state, {"progress": (at.progress, 1.0)})

    config = optimizer.default_config()
    config.update({"name": "sgd", "clip_norm": 0.0, "weight_decay": 0.0})
    tx = optimizer.make_optimizer(config, lambda step: 2.0**-step)
    step = make_train_step(
        Objective(init=None, loss=loss), tx, num_steps=10, prng_impl="threefry2x32", skips_non_finite=True
    )
    state = state_lib.create({"w": jnp.zeros(1)}, {}, tx, 0, "threefry2x32")
    moves, progress = [], []
    for batch in (1.0, np.nan, 1.0, 1.0):
        before = float(state.params["w"][0])
        state, metrics = step(state, None, jnp.float32(batch))
        moves.append(before - float(state.params["w"][0]))
        progress.append(float(metrics["progress"][0]))
    assert moves == [1.0, 0.0, 0.25, 0.125]
    np.testing.assert_allclose(progress, [0.0, 0.1, 0.2, 0.3], rtol=1e-6)


FROZEN = ("student/encoder/.*: frozen", "student/head/.*: rate=1")
BATCH = {"inputs": np.linspace(-1, 1, 8 * 4, dtype=np.float32).reshape(8, 4)}


def _two_layers():
    """An objective with an encoder below a head; its weights are split by name."""

    def init(rng, batch):
        encoder = {
            "kernel": rules.with_axes(jax.random.normal(rng, (4, 16)), "embed", "mlp"),
            "bias": rules.with_axes(-jnp.zeros(16), "mlp"),
        }
        head = {
            "kernel": rules.with_axes(jnp.ones((16, 4)), "mlp", "embed"),
            "bias": rules.with_axes(jnp.ones(4), "norm"),
        }
        return {"student": {"encoder": encoder, "head": head}}, {}, {}

    def loss(params, frozen, objective_state, batch, at):
        encoder, head = params["student"]["encoder"], params["student"]["head"]
        hidden = jnp.tanh(batch["inputs"] @ encoder["kernel"] + encoder["bias"])
        return jnp.mean((hidden @ head["kernel"] + head["bias"]) ** 2), (objective_state, {})

    return Objective(init=init, loss=loss)


@functools.cache
def _place(shape, frozen_rules):
    """(step function, start, abstract (state, frozen), sharding of a batch) on a mesh of that shape."""
    config = optimizer.default_config()
    config.update({"learning_rate": 1e-2, "clip_norm": 0.5, "rules": frozen_rules})
    tx = optimizer.make_optimizer(config, optimizer.make_schedule(config, 20, 0))
    mesh = meshes.make_mesh(dict(zip(rules.MESH_AXES, shape, strict=True)), jax.devices()[: np.prod(shape)])
    start = InitialState(objective=_two_layers(), tx=tx, example=BATCH, mesh=mesh, rules=rules.RULES, num_steps=20)
    abstract = start.abstract()
    return start.step(abstract, skips_non_finite=True), start, abstract, rules.batch_sharding(mesh)


@functools.cache
def _train(shape, frozen_rules):
    step, start, abstract, split = _place(shape, frozen_rules)
    state, frozen = start.fill_state(abstract[0], None), start.fill_frozen(abstract[1], {})
    before, norms = jax.tree.map(np.asarray, state.params), []
    for _ in range(3):
        batch = placement.put_batch(BATCH, split)
        state, metrics = step(state, frozen, batch)
        norms.append(float(metrics["gradient_norm"][0]))
    return before, state, norms


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_frozen_parameters_stay_bit_for_bit_and_have_no_moments(shape):
    before, state, _ = _train(shape, FROZEN)
    after = jax.tree.map(np.asarray, state.params)

    def bits(tree):
        return [leaf.tobytes() for leaf in jax.tree.leaves(tree)]

    assert bits(before["student"]["encoder"]) == bits(after["student"]["encoder"])
    assert bits(before["student"]["head"]) != bits(after["student"]["head"])
    adam = state.opt_state[1]
    assert not jax.tree.leaves((adam.mu["student"]["encoder"], adam.nu["student"]["encoder"]))
    assert len(jax.tree.leaves(state.opt_state)) == 1 + 2 * 2
    moments, params = (jax.tree.leaves(tree["student"]["head"]) for tree in (adam.mu, state.params))
    for moment, param in zip(moments, params, strict=True):
        assert moment.sharding.is_equivalent_to(param.sharding, param.ndim)
    assert params[1].sharding.is_fully_replicated == (shape == (1, 1, 1))


def test_a_frozen_parameter_is_not_even_added_to_zero():
    """-0.0 + 0.0 is 0.0. Compiled, XLA leaves the sum out, so the step runs as it is written."""

    def loss(params, frozen, objective_state, batch, rng):
        return jnp.sum(params["a"] * params["b"]), (objective_state, {})

    config = optimizer.default_config()
    config.rules = ("a: frozen", "b: rate=1")
    tx = optimizer.make_optimizer(config, lambda step: 0.1)
    step = make_train_step(Objective(init=None, loss=loss), tx, num_steps=10, prng_impl="threefry2x32")
    state = state_lib.create({"a": -jnp.zeros(1), "b": jnp.ones(1)}, {}, tx, 0, "threefry2x32")
    with jax.disable_jit():
        state, _ = step(state, None, None)
    assert np.signbit(state.params["a"][0])


def test_the_gradient_norm_is_of_the_trained_parameters_on_one_and_on_eight_devices():
    one, eight, every = (_train(*case)[2] for case in (((1, 1, 1), FROZEN), ((2, 2, 2), FROZEN), ((1, 1, 1), ())))
    np.testing.assert_allclose(one, eight, rtol=1e-4)
    assert one[0] < 0.9 * every[0]


def test_a_frozen_encoder_costs_no_backward_pass():
    flops = []
    for frozen_rules in ((), FROZEN):
        step, _, (state, frozen), split = _place((1, 1, 1), frozen_rules)
        batch = placement.put_batch({"inputs": np.tile(BATCH["inputs"], (64, 1))}, split)
        flops.append(step.lower(state, frozen, batch).compile().cost_analysis()["flops"])
    assert flops[1] < 0.8 * flops[0]


def test_a_state_with_a_frozen_part_is_saved_and_restored(tmp_path):
    _, state, _ = _train((2, 2, 2), FROZEN)
    writer = checkpoint.Checkpointer(tmp_path, keep_last=1)
    writer.restore(state)
    writer.save(state, {"step": 3}, wait=True)
    writer.close()
    restored, facts = checkpoint.Checkpointer(tmp_path, keep_last=1).restore(state)
    assert facts == {"step": 3} and jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), restored, state)


@pytest.mark.parametrize("seed", [0, 2**31, MAX_SEED])
def test_every_seed_that_a_config_takes_starts_a_run(seed):
    def init(rng, batch):
        return {"student": {"w": jax.random.bits(rng, (4,))}}, {"table": jax.random.bits(rng, (4,))}, {}

    start = dataclasses.replace(_place((1, 1, 1), ())[1], objective=Objective(init=init, loss=None), seed=seed)
    start = dataclasses.replace(start, tx=optax.sgd(1.0))
    abstract = start.abstract()
    state, frozen = start.fill_state(abstract[0], None), start.fill_frozen(abstract[1], {})
    bits = jax.random.bits(jax.random.fold_in(jax.random.key(seed), INIT), (4,))
    np.testing.assert_array_equal(state.params["student"]["w"], bits)
    np.testing.assert_array_equal(frozen["table"], bits)
    np.testing.assert_array_equal(state.rng, jax.random.key_data(jax.random.key(seed)))
