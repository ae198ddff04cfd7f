"""Negatives kept from earlier batches: a bank with one row per training example, and a FIFO queue.

State comes in and goes out; the state never has a gradient. Shapes are static and every update is
deterministic, so a resumed run is bit-equal and a mesh gives what one device gives.
"""

import math

import jax
import jax.numpy as jnp

from codir_jax.negatives import repeats

# Banks have a multiple of so many rows that any usual number of devices shares them evenly. It depends on the rows
# only, not on the mesh, so that a checkpoint of one mesh is read on another.
LEAST_MULTIPLE, LARGEST_MULTIPLE = 2**10, 2**16


def padded_rows(num_rows: int) -> int:
    """The next multiple of a power of two, the largest up to 2^16 that adds at most a sixteenth; at least of 1024."""
    multiple = LEAST_MULTIPLE
    while multiple < LARGEST_MULTIPLE and 2 * multiple <= num_rows // 16:
        multiple *= 2
    return -(-num_rows // multiple) * multiple


def init_bank(rng: jax.Array, num_rows: int, *shape: int) -> jax.Array:
    """Random rows, uniform(-r, r) with r = sqrt(3 / dim): mean square length 1, not normalised (as released).

    Args:
        rng: PRNG key.
        num_rows: number of training examples, or more.
        shape: of a row, the projection size last.

    Returns:
        float32 [num_rows, *shape].
    """
    bound = math.sqrt(3.0 / shape[-1])
    return jax.random.uniform(rng, (num_rows, *shape), jnp.float32, -bound, bound)


def lookup(bank: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of the bank, constants of the loss (no gradient).

    Args:
        bank: float32 [num_rows, ...].
        ids: int32 of any shape; an id outside the bank, which no one looks at and `update` drops, reads its last row.

    Returns:
        float32 [*ids.shape, ...].
    """
    ids = jnp.where(ids < 0, bank.shape[0], ids)  # a negative index would wrap around to the last rows
    # Not mode="fill": zeros for ids outside are a second pass over all that was read.
    return jax.lax.stop_gradient(jnp.take(bank, ids, axis=0, mode="clip"))


def row_scores(anchor: jax.Array, rows: jax.Array) -> jax.Array:
    """Inner product of each anchor with its own rows, in full float32.

    Args:
        anchor: float [B, D].
        rows: float [B, K, D], e.g. from `lookup`.

    Returns:
        float32 [B, K].
    """
    return jnp.einsum(
        "bd,bkd->bk",
        jnp.asarray(anchor, jnp.float32),
        jnp.asarray(rows, jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )


def update(
    bank: jax.Array, ids: jax.Array, values: jax.Array, momentum: float, rows: jax.Array | None = None
) -> jax.Array:
    """The bank after a batch: bank[i] <- normalise(momentum * bank[i] + (1 - momentum) * value).

    If an id occurs twice in the batch, the last row wins, starting like the others from the bank as it came
    in. All other rows stay bit-equal.

    Args:
        bank: float32 [num_rows, ..., D].
        ids: int32 [B]; an id outside the bank is dropped.
        values: float [B, ..., D], unit along the last axis.
        momentum: in [0, 1]; 0.5 in the released code.
        rows: float32 [B, ..., D], the rows `ids` if they have been looked up. Where all reading of a step is one
            look-up whose result goes into the new rows, XLA writes them in place; else it copies the bank, twice.

    Returns:
        float32 [num_rows, ..., D].
    """
    rows = lookup(bank, ids) if rows is None else rows
    values = jax.lax.stop_gradient(jnp.asarray(values, jnp.float32))
    mixed = momentum * rows + (1.0 - momentum) * values
    square = jnp.sum(jnp.square(mixed), axis=-1, keepdims=True)
    mixed = jnp.where(square == 0.0, mixed, mixed / jnp.sqrt(jnp.where(square == 0.0, 1.0, square)))
    target = _write_targets(ids, bank.shape[0])
    return jax.lax.stop_gradient(bank).at[target].set(mixed, mode="drop", unique_indices=True)


def init_queue(size: int, dim: int) -> dict[str, jax.Array]:
    """An empty first-in-first-out queue.

    Args:
        size: number of rows kept.
        dim: projection size.

    Returns:
        rows float32 [size, dim]; labels int32 [size] (-1 = unlabelled); text_ids int32 [size];
        is_valid bool [size], False until filled; head int32 scalar, where the next row goes.
    """
    return {
        "rows": jnp.zeros((size, dim), jnp.float32),
        "labels": jnp.full((size,), -1, jnp.int32),
        "text_ids": jnp.full((size,), -1, jnp.int32),
        "is_valid": jnp.zeros((size,), bool),
        "head": jnp.zeros((), jnp.int32),
    }


def push(
    queue: dict[str, jax.Array], rows: jax.Array, labels: jax.Array, text_ids: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """The queue after a batch: real rows enter in order and replace the oldest ones.

    Args:
        queue: as from `init_queue`.
        rows: float [B, D]; of more than `size` real rows the last `size` stay.
        labels: int32 [B]; -1 = unlabelled.
        text_ids: int32 [B].
        mask: bool or float [B]; rows where it is 0 do not enter and take no place.

    Returns:
        The new queue, same shapes and dtypes.
    """
    size = queue["rows"].shape[0]
    enters = jnp.asarray(mask, bool)
    rank = jnp.cumsum(enters.astype(jnp.int32)) - 1
    count = jnp.sum(enters, dtype=jnp.int32)
    stays = enters & (rank >= count - size)
    # As in `update`: dropped rows get distinct outside indices, so that the scatter has no duplicates.
    outside = size + jnp.arange(enters.shape[0], dtype=jnp.int32)
    target = jnp.where(stays, (queue["head"] + rank) % size, outside)

    def write(old: jax.Array, new: jax.Array) -> jax.Array:
        new = jax.lax.stop_gradient(jnp.asarray(new, old.dtype))
        return old.at[target].set(new, mode="drop", unique_indices=True)

    return {
        "rows": write(queue["rows"], rows),
        "labels": write(queue["labels"], labels),
        "text_ids": write(queue["text_ids"], text_ids),
        "is_valid": write(queue["is_valid"], enters),
        "head": (queue["head"] + count) % size,
    }


def _write_targets(ids: jax.Array, num_rows: int) -> jax.Array:
    """Where each batch row is written, int32 [B], all distinct: its id, or an index >= num_rows to be dropped.

    The order in which a scatter writes equal indices is undefined on accelerators (the CPU happens to write the
    last one last), so all but the last row of an id are sent outside, each to an index of its own.
    """
    order = jnp.arange(ids.shape[0], dtype=jnp.int32)
    has_later = repeats.is_repeat(ids[::-1])[::-1]
    is_outside = (ids < 0) | (ids >= num_rows)
    return jnp.where(has_later | is_outside, num_rows + order, ids)
