"""Twenty steps of CoDIR on a mesh, by one process or several.

python -m tests.sharding.codir_run SOURCE SHAPE OUTPUT
"""

import functools
import sys

import jax
import numpy as np

from codir_jax.objectives import codir
from codir_jax.processes import distributed
from codir_jax.sharding import placement
from tests.objectives import tiny

NUM_STEPS = 20
BATCH = 16


def batches(setting):
    """This process's rows of 16 a step; every third batch is the short last one of an epoch, with 10 real rows."""
    share = BATCH // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    for step in range(NUM_STEPS):
        rows = np.random.default_rng(step).permutation(tiny.NUM_TRAIN)[: 10 if step % 3 == 2 else BATCH]
        whole = tiny.batch(setting, rows, num_padding=BATCH - len(rows))
        yield {name: value[mine] for name, value in whole.items()}


@functools.cache
def trained(source, shape, num_microbatches=1):
    """(losses, leaves of each part of the final state, as numpy) of a run on a mesh of that shape.

    Args:
      source: of negatives at fine-tuning, or "pre-training".
    """
    if source == "pre-training":
        setting = tiny.pretraining_setting(num_microbatches=num_microbatches)
        config = codir.default_config("pretrain")
        config.update({"projection_dim": 8, "vocab_chunk_size": 16})
        config.negatives.queue_size = 32
    else:
        setting = tiny.setting(num_microbatches=num_microbatches)
        config = codir.default_config()
        config.projection_dim = 8
        config.negatives.update({"source": source, "num_negatives": 9, "queue_size": 32})
    objective = codir.make(config, setting)
    placed = tiny.Placed.make(objective, shape, tiny.batch(setting, np.arange(BATCH)), NUM_STEPS)
    abstract_state, abstract_frozen = placed.abstract
    state = placed.start.fill_state(abstract_state, None)
    view = {}
    if "teacher_pooled" in abstract_frozen:
        shape_of_row = abstract_frozen["teacher_pooled"].shape[1:]
        view["teacher_pooled"] = np.random.default_rng(0).normal(size=(tiny.NUM_TRAIN, *shape_of_row)).astype("float32")
    frozen = placed.start.fill_frozen(abstract_frozen, placed.start.tables(view))
    losses = []
    for batch in batches(setting):
        state, metrics = placed.step(state, frozen, placement.put_batch(batch, placed.split))
        losses.append(float(metrics["loss"][0]))
    parts = (state.params, state.opt_state, state.objective_state)
    return np.asarray(losses), [[placement.fetch(leaf) for leaf in jax.tree.leaves(part)] for part in parts]


def main(source, shape, output):
    """Trains as one of the processes that the environment tells, and lets the first write what comes out."""
    place = distributed.place_of({})
    distributed.start(place, connect_timeout=60, heartbeat_timeout=60)
    losses, parts = trained(source, tuple(map(int, shape.split("x"))))
    if jax.process_index() == 0:
        leaves = {f"{i}.{j}": leaf for i, part in enumerate(parts) for j, leaf in enumerate(part)}
        np.savez(output, losses=losses, **leaves)
    distributed.leave(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
