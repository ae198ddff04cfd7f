"""Between host and devices: numpy batches become global arrays, global arrays come back to every process."""

import jax
import numpy as np
from jax.sharding import NamedSharding


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """The global batch as device arrays, from each process's contiguous rows of it.

    Args:
      batch: arrays [rows of this process, ...].
      sharding: of the first axis, from `rules.batch_sharding`.
    """
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def fetch(array: jax.Array) -> np.ndarray:
    """The whole of a sharded array on every process."""
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
