"""What devices send each other in a step, read from the compiled program: features, ids and gradients of weights."""

import math
import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from codir_jax.objectives import codir
from codir_jax.sharding.rules import unbox
from codir_jax.train import optimizer, state
from codir_jax.train.step import make_train_step
from tests.objectives import tiny

BATCH = 64
COLLECTIVE = re.compile(r"= (.+?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(-start)?\(")


def _collectives(text):
    """(operation, shape) of every array that a collective of an HLO text puts out."""
    for result, operation, _ in COLLECTIVE.findall(text):
        for shape in re.findall(r"\w+\[([\d,]*)\]", result):
            yield operation, tuple(int(n) for n in shape.split(",") if n)


def test_the_reader_of_collectives_knows_their_forms():
    text = """
      %a = f32[64,8]{1,0} all-gather(%x), channel_id=1
      %b = (f32[16]{0}, s32[2,3]{1,0}) all-reduce(%y, %z), channel_id=2
      %c = f32[4]{0} add(%a, %b)
    """
    assert list(_collectives(text)) == [("all-gather", (64, 8)), ("all-reduce", (16,)), ("all-reduce", (2, 3))]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("source", ["in_batch+bank", "in_batch+teacher_cache"])
def test_no_collective_grows_with_hidden_size_times_batch(source, shared):
    setting = tiny.setting()
    config = codir.default_config()
    config.projection_dim = 4
    config.negatives.update({"source": source, "num_negatives": 6, "shared": shared})
    objective = codir.make(config, setting)
    ids = np.arange(BATCH) % tiny.NUM_TRAIN
    batch = tiny.batch(setting, ids)
    params, frozen, objective_state = jax.jit(lambda rng: unbox(objective.init(rng, batch)))(jax.random.key(0))
    options = optimizer.default_config()
    tx = optimizer.make_optimizer(options, optimizer.make_schedule(options, 10, 0))
    start = state.create(params, objective_state, tx, 0, "threefry2x32")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    shardings = (jax.tree.map(lambda _: whole, start), jax.tree.map(lambda _: whole, frozen), split)
    step = make_train_step(objective, tx, prng_impl="threefry2x32", shardings=shardings)
    found = list(_collectives(step.lower(start, frozen, batch).compile().as_text()))
    assert found
    # A gradient is summed in its parameter's shape, or that of a part of it or of its transpose.
    of_parameters = {tuple(sorted(n for n in leaf.shape if n > 1)) for leaf in jax.tree.leaves(params)}
    others = [(op, s) for op, s in found if tuple(sorted(n for n in s if n > 1)) not in of_parameters]
    hidden = setting.student.config.hidden_size
    assert max(math.prod(shape) for _, shape in others) < BATCH * hidden
