"""Between host and devices: numpy batches become global arrays, global arrays come back to every process."""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding

from codir_jax.processes import stop


def put_batch(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """The global batch as device arrays, from each process's contiguous rows of it.

    Args:
      batch: arrays [rows of this process, ...].
      sharding: of the first axis, from `rules.batch_sharding`.
    """
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


NUM_AHEAD = 2


def put_ahead(batches: Iterable[dict[str, np.ndarray]], sharding: NamedSharding) -> Iterator[dict[str, jax.Array]]:
    """Yields the batches on the devices, NUM_AHEAD of them put there before they are asked for.

    Putting returns before the copy is done, so the copies run while the devices compute. What may be cut short ends
    here (`stop.may_be_cut`).
    """
    ahead: collections.deque[dict[str, jax.Array]] = collections.deque()
    for batch in batches:
        stop.poll()
        ahead.append(put_batch(batch, sharding))
        if len(ahead) > NUM_AHEAD:
            yield ahead.popleft()
    yield from ahead


def fetch(array: jax.Array) -> np.ndarray:
    """The whole of a sharded array on every process."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
