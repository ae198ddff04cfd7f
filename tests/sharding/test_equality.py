"""A run is the same on every mesh: losses, parameters, optimizer, bank and queue, after 20 steps of CoDIR."""

import functools

import jax
import numpy as np
import pytest

from codir_jax.objectives import codir
from codir_jax.sharding import placement
from tests.objectives import tiny

NUM_STEPS = 20


def batches(setting):
    """16 rows a step; every third batch is the short last one of an epoch, with 10 real rows."""
    for step in range(NUM_STEPS):
        rows = np.random.default_rng(step).permutation(tiny.NUM_TRAIN)[: 10 if step % 3 == 2 else 16]
        yield tiny.batch(setting, rows, num_padding=16 - len(rows))


@functools.cache
def trained(source, shape):
    """(losses, final state as numpy) of a run on a mesh of that shape."""
    setting = tiny.setting()
    config = codir.default_config()
    config.projection_dim = 8
    config.negatives.update({"source": source, "num_negatives": 9, "queue_size": 32})
    objective = codir.make(config, setting)
    placed = tiny.Placed.make(objective, shape, tiny.batch(setting, np.arange(16)), NUM_STEPS)
    state, frozen = placed.start.fill(placed.abstract, None, {})
    losses = []
    for batch in batches(setting):
        state, metrics = placed.step(state, frozen, placement.put_batch(batch, placed.split))
        losses.append(metrics["loss"][0])
    return np.asarray(losses), jax.tree.map(np.asarray, state._replace(rng=0))


def assert_equal_runs(source, shape):
    losses, state = trained(source, (1, 1, 1))
    their_losses, their_state = trained(source, shape)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(their_losses, losses, rtol=1e-5)
    for ours, theirs in zip(state, their_state, strict=True):  # parameters, optimizer, banks and queues, ...
        largest = max((np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(ours)), default=0)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 1, 2), (2, 2, 2)])
def test_a_mesh_gives_what_one_device_gives(shape):
    assert_equal_runs("in_batch+bank+queue", shape)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 1, 2), (2, 2, 2)])
@pytest.mark.parametrize("source", ["in_batch", "bank", "queue"])
def test_a_mesh_gives_what_one_device_gives_with_one_source(source, shape):
    assert_equal_runs(source, shape)
