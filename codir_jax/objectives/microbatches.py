"""A batch that does not fit into memory at once: models run on one part after the other, losses see all of it.

A contrastive loss over the whole batch needs every example's features at the same time, but not what the models kept to
compute them. So each microbatch is encoded without keeping anything, the loss is taken over all features, and its
gradient is carried back through one microbatch after the other, encoded once more. That is gradient caching (Gao et
al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021), here a map over
checkpointed calls inside the one jitted step: the gradient is that of the whole batch, with all its negatives.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from codir_jax.objectives.contract import Setting
from codir_jax.sharding.rules import constrain


def run_student(
    setting: Setting,
    params: Any,
    batch: dict[str, jax.Array],
    rng: jax.Array | None,
    read: Callable,
    run: Callable | None = None,
):
    """`read(the student's output, batch)`, in the microbatches of the setting.

    The words are looked up for the whole batch: the gradient of the embedding table is as large as the table, and would
    be made and added once a microbatch. So one state a token, and its gradient, are kept for all of them.

    Args:
      params: of the student.
      rng: of dropout, None for none.
      read: (output, batch) -> tree of arrays [rows, ...].
      run: (batch, rng) -> output, in the place of the head's on the student.
    """
    num = setting.num_microbatches
    if num > 1:
        batch = {**batch, "words": setting.student.apply({"params": params}, batch["input_ids"], method="words")}

    def encode(part, part_rng):
        output = run(part, part_rng) if run else setting.head.run(setting.student, params, part, part_rng)
        return read(output, part)

    return in_microbatches(encode, num, batch, rng)


def in_microbatches(function: Callable, num: int, batch: dict[str, jax.Array], rng: jax.Array | None) -> Any:
    """`function(batch, rng)`, computed for `num` parts of the batch in turn.

    Microbatch c has the rows c, c + num, c + 2 num, ...: the same ones on every mesh, and as the batch is split over
    devices in stretches, an equal number from every device without moving any.

    Args:
      function: (batch, rng) -> tree of arrays [rows, ...], each row depending on its own row of the batch only.
      num: divides the batch.
      batch: arrays [rows, ...].
      rng: of dropout, another one for each microbatch; None for none.

    Returns:
      The tree for the whole batch, rows in its order.
    """
    if num == 1:
        return function(batch, rng)

    def split(x):
        return constrain(jnp.moveaxis(x.reshape(x.shape[0] // num, num, *x.shape[1:]), 1, 0), None, "batch")

    def join(x):
        return constrain(jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), "batch")

    # Inside a loop nothing can be merged across the two passes, so the barrier against it is left out.
    encode = jax.checkpoint(lambda part: function(*part), prevent_cse=False)
    rngs = None if rng is None else jax.random.split(rng, num)
    return jax.tree.map(join, jax.lax.map(encode, (jax.tree.map(split, batch), rngs)))
