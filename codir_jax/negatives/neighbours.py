"""Hard negatives: the nearest rows of each train row in the teacher's space, searched once, exactly, in chunks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from codir_jax.negatives import in_batch


def nearest(
    vectors: jax.Array,
    classes: jax.Array,
    text_ids: jax.Array,
    *,
    num_neighbours: int,
    similarity_ceiling: float,
    mask_same_label: bool,
    mask_same_text: bool,
    chunk_size: int = 256,
    split: NamedSharding | None = None,
    label_sets: jax.Array | None = None,
) -> jax.Array:
    """Row ids of each row's nearest usable rows, nearest first; equal cosines in order of id.

    A row itself, its false negatives and its near-duplicates (cosine above the ceiling) are no neighbours, so every id
    that is returned is a usable negative.

    Cost: N^2 D multiply-adds; [chunk_size, N] scores at a time, never [N, N]. For 393,000 rows x 4,608 features that is
    1.4e15 floating-point operations, half a minute or so on an accelerator of 50 TFLOP/s in float32 and hours on a
    laptop; `vectors` then take 7.2 GB, `chunk_size` 256 another 0.4 GB of scores.

    Args:
      vectors: float32 [N, D], unit rows, whole on every device.
      classes: int32 [N]; -1 = unlabelled. text_ids: int32 [N].
      num_neighbours: M.
      similarity_ceiling: largest cosine that a neighbour may have.
      mask_same_label, mask_same_text, label_sets: as in `in_batch.usable_negatives`.
      chunk_size: rows searched at a time; more, where the devices of `split` do not divide it.
      split: of the rows of a chunk over devices; None: on one.

    Returns:
      int32 [N, M]; -1 where a row has fewer than M neighbours.
    """
    num_rows = vectors.shape[0]
    num_devices = 1 if split is None else split.num_devices
    chunk_size = math.ceil(chunk_size / num_devices) * num_devices
    options = {
        "num_neighbours": min(num_neighbours, num_rows),
        "similarity_ceiling": similarity_ceiling,
        "mask_same_label": mask_same_label,
        "mask_same_text": mask_same_text,
    }
    found = []
    for start in range(0, num_rows, chunk_size):
        ids = np.minimum(np.arange(start, start + chunk_size), num_rows - 1).astype(np.int32)
        found.append(_nearest_of(vectors, classes, text_ids, jax.device_put(ids, split), label_sets, **options))
    neighbours = jnp.concatenate(found)[:num_rows]
    return jnp.pad(neighbours, ((0, 0), (0, num_neighbours - neighbours.shape[1])), constant_values=-1)


@functools.partial(
    jax.jit, static_argnames=("num_neighbours", "similarity_ceiling", "mask_same_label", "mask_same_text")
)
def _nearest_of(
    vectors, classes, text_ids, ids, label_sets, *, num_neighbours, similarity_ceiling, mask_same_label, mask_same_text
):
    """int32 [rows, num_neighbours] of the rows `ids`."""
    cosines = in_batch.score_matrix(vectors[ids], vectors)
    usable = in_batch.usable_negatives(
        classes[ids],
        text_ids[ids],
        classes,
        text_ids,
        cosines <= similarity_ceiling,
        mask_same_label=mask_same_label,
        mask_same_text=mask_same_text,
        label_sets=label_sets,
    )
    usable &= ids[:, None] != jnp.arange(vectors.shape[0])
    best, rows = jax.lax.top_k(jnp.where(usable, cosines, -jnp.inf), num_neighbours)
    return jnp.where(jnp.isneginf(best), -1, rows)
