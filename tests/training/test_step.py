"""The compiled step: the state's buffers are used again, not copied."""

import jax
import numpy as np
import optax

from codir_jax.objectives import distill
from codir_jax.sharding import rules
from codir_jax.training import state as state_lib
from codir_jax.training.step import make_train_step
from tests.objectives import tiny


def test_the_state_is_donated_and_the_compiler_writes_into_its_buffers():
    setting = tiny.setting()
    objective = distill.make(distill.default_config(), setting)
    batch = tiny.batch(setting)
    params, frozen, objective_state = rules.unbox(objective.init(jax.random.key(0), batch))
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
