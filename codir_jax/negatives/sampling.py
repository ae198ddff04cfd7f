"""Ids of negative rows, drawn uniformly on the device: for each example, or one pool for the whole batch.

Rows are sorted by class once, on the host; the rows of all other classes are then two ranges, and a draw is
one random integer and one lookup, whatever the size of the training set. Without replacement the draw is
exact and never permutes the pool: Floyd's algorithm needs num random integers and two sorts of them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.negatives import repeats
from codir_jax.processes.user_error import UserError


def class_index(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Training rows sorted by class, for `sample_other_class`.

    Args:
        labels: int [N], class of each training row in 0..C-1; -1 = unlabelled.

    Returns:
        sorted_rows: int32 [N], rows in order of class (unlabelled ones last);
        starts: int32 [C + 1], class c occupies sorted_rows[starts[c]:starts[c + 1]].

    Raises:
        ValueError: the labels are not integers >= -1.
        UserError: all labelled rows are of one class.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers [N], got {labels.dtype} {list(labels.shape)}; "
            "bin regression targets with bin_labels"
        )
    if labels.size and labels.min() < -1:
        raise ValueError(f"labels must be >= -1 (-1 = unlabelled), got {labels.min()}")
    labelled = labels[labels >= 0]
    if labelled.size and labelled.min() == labelled.max():
        raise UserError(
            f"all {labelled.size} labelled rows are of class {labelled[0]}: there is no row of another class "
            "to draw; use negatives that are not label-aware"
        )
    num_classes = int(labelled.max()) + 1 if labelled.size else 0
    sort_key = np.where(labels < 0, num_classes, labels)
    return {
        "sorted_rows": np.argsort(sort_key, kind="stable").astype(np.int32),
        "starts": np.searchsorted(np.sort(labelled), np.arange(num_classes + 1)).astype(np.int32),
    }


def smallest_pool(index: dict[str, np.ndarray]) -> int:
    """Fewest rows that any class present in train can draw from; N when nothing is labelled.

    The released code drew with replacement, for all classes, when num >= this number.

    Args:
        index: from `class_index`.

    Returns:
        The number of labelled rows outside the largest class.
    """
    sizes = np.diff(index["starts"])
    return int(sizes.sum() - sizes.max()) if sizes.size else len(index["sorted_rows"])


def bin_labels(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Regression targets as classes of about equal size, so that label-aware sampling works on them (ours).

    Equal values share a bin; where many values are equal there are fewer bins than asked for.

    Args:
        values: float [N]; NaN = unlabelled.
        num_bins: at least 2.

    Returns:
        int32 [N], bins 0.. in order of value, without gaps; -1 where the value is NaN.

    Raises:
        UserError: num_bins < 2.
    """
    if num_bins < 2:
        raise UserError(f"num_bins must be at least 2, got {num_bins}")
    values = np.asarray(values, np.float64)
    is_known = ~np.isnan(values)
    bins = np.full(values.shape, -1, np.int32)
    if is_known.any():
        _, inverse, counts = np.unique(values[is_known], return_inverse=True, return_counts=True)
        # Middle ranks rather than quantiles as edges: a value that fills several bins still gets one to itself.
        middle_rank = np.cumsum(counts) - counts / 2
        raw_bins = np.floor(middle_rank * num_bins / is_known.sum())
        bins[is_known] = np.unique(raw_bins, return_inverse=True)[1][inverse]
    return bins


def sample_other_class(
    rng: jax.Array,
    index: dict[str, jax.Array],
    anchor_labels: jax.Array,
    num: int,
    *,
    replace: bool,
    own_ids: jax.Array | None = None,
) -> jax.Array:
    """Row ids of negatives for each anchor, uniform over the labelled rows of all other classes.

    An unlabelled anchor draws from all N rows, labelled or not (from all but its own where own_ids is given).

    Args:
        rng: PRNG key.
        index: from `class_index`.
        anchor_labels: int32 [B]; -1 = unlabelled.
        num: negatives per anchor (static).
        replace: False = distinct ids for each anchor, exactly uniform over subsets. An anchor whose pool has
            fewer than num rows draws with replacement all the same (`smallest_pool` tells beforehand).
        own_ids: int32 [B], rows of the anchors; used for unlabelled anchors only.

    Returns:
        int32 [B, num].
    """
    sorted_rows = jnp.asarray(index["sorted_rows"], jnp.int32)
    starts = jnp.asarray(index["starts"], jnp.int32)
    num_rows, num_classes = sorted_rows.shape[0], starts.shape[0] - 1
    is_labelled = anchor_labels >= 0
    label = jnp.clip(anchor_labels, 0, max(num_classes - 1, 0))
    first = starts[label]
    own_size = starts[jnp.minimum(label + 1, num_classes)] - first
    all_size = num_rows if own_ids is None else num_rows - 1
    pool = jnp.where(is_labelled, starts[num_classes] - own_size, all_size)
    draws = _draw(rng, pool, num, replace)
    # Positions in the sorted order, stepping over the anchor's own class.
    other = sorted_rows[jnp.where(draws >= first[:, None], draws + own_size[:, None], draws)]
    anyone = draws if own_ids is None else _skip(draws, own_ids)
    return jnp.where(is_labelled[:, None], other, anyone)


def sample_any(rng: jax.Array, num_rows: int, own_ids: jax.Array, num: int, replace: bool) -> jax.Array:
    """Row ids of negatives for each anchor, uniform over all rows but its own.

    Args:
        rng: PRNG key.
        num_rows: N, at least 2.
        own_ids: int32 [B], rows of the anchors; the padding id num_rows is allowed.
        num: negatives per anchor (static).
        replace: False = distinct ids for each anchor, unless there are fewer than num other rows.

    Returns:
        int32 [B, num].

    Raises:
        UserError: num_rows < 2.
    """
    if num_rows < 2:
        raise UserError(f"num_rows must be at least 2 to hold a row other than the anchor's, got {num_rows}")
    pool = jnp.full(own_ids.shape, num_rows - 1, jnp.int32)
    return _skip(_draw(rng, pool, num, replace), own_ids)


def sample_pool(rng: jax.Array, num_rows: int, num: int) -> jax.Array:
    """Distinct row ids, uniform over all rows: one pool that a whole batch shares.

    Args:
        rng: PRNG key.
        num_rows: N.
        num: size of the pool (static); of more than N the pool is all rows.

    Returns:
        int32 [min(num, N)].
    """
    num = min(num, num_rows)
    return _draw(rng, jnp.full((1,), num_rows, jnp.int32), num, replace=False)[0]


def sample_neighbours(rng: jax.Array, neighbours: jax.Array, num: int) -> jax.Array:
    """Some of each example's neighbours, uniform without replacement.

    Args:
        rng: PRNG key.
        neighbours: int32 [B, M], -1 = no such neighbour.
        num: at most M (static).

    Returns:
        int32 [B, num]; -1 where an example has fewer than num neighbours.
    """
    # M is a dozen or so: the num largest of M random keys. 24 bits of key tie once in a million draws.
    keys = jnp.where(neighbours >= 0, jax.random.uniform(rng, neighbours.shape), -1.0)
    return jnp.take_along_axis(neighbours, jax.lax.top_k(keys, num)[1], axis=-1)


def _skip(draws: jax.Array, own_ids: jax.Array) -> jax.Array:
    """Integers of 0..N-2 as rows of 0..N-1 without the anchor's own."""
    return draws + (draws >= own_ids[:, None]).astype(draws.dtype)


def _draw(rng: jax.Array, pool: jax.Array, num: int, replace: bool) -> jax.Array:
    """num integers of 0..pool-1 for each row of pool [B], int32 [B, num]; distinct unless replace or pool < num."""
    base = pool.astype(jnp.int32)[:, None] - num
    is_distinct = (base >= 0) & (not replace)
    bound = jnp.where(is_distinct, base + jnp.arange(1, num + 1, dtype=jnp.int32), base + num)
    draws = _below(rng, bound)
    return draws if replace else jnp.where(is_distinct, _floyd(draws, base), draws)


def _below(rng: jax.Array, bound: jax.Array) -> jax.Array:
    """Integers of 0..bound-1, each as likely as the others up to a share of bound / 2^64; int32, the shape of bound.

    `jax.random.randint` takes a remainder of 32 bits where a bound exceeds 2^16: of 10^9 rows it draws each of
    the first 3 * 10^8 a quarter more often than each of the others.

    Args:
        rng: PRNG key.
        bound: int32 of any shape, >= 0; 0 gives 0.
    """
    high, low = jax.random.bits(rng, (2, *bound.shape), jnp.uint32)
    return _share(high, low, bound.astype(jnp.uint32)).astype(jnp.int32)


def _share(high: jax.Array, low: jax.Array, bound: jax.Array) -> jax.Array:
    """floor(bound * (2^32 high + low) / 2^64), all uint32: 64 bits without a 64-bit type, which jax has off."""
    product = high * bound
    carries = product + _high_word(low, bound) < product
    return _high_word(high, bound) + carries.astype(jnp.uint32)


def _high_word(a: jax.Array, b: jax.Array) -> jax.Array:
    """floor(a * b / 2^32), uint32, by products of 16 bits (Warren, "Hacker's Delight", 8-2)."""
    a_high, a_low, b_high, b_low = a >> 16, a & 0xFFFF, b >> 16, b & 0xFFFF
    middle = a_high * b_low + (a_low * b_low >> 16)
    return a_high * b_high + (middle >> 16) + (a_low * b_high + (middle & 0xFFFF) >> 16)


def _floyd(draws: jax.Array, base: jax.Array) -> jax.Array:
    """A uniform subset of 0..base+num-1 from draws t_j, uniform over 0..base+j; int32 [B, num], distinct.

    Floyd's algorithm (Bentley & Floyd, "A sample of brilliance", CACM 30(9), 1987): step j takes t_j, or base + j
    if t_j has been taken before; each subset is equally likely. The steps look sequential, but "taken before" is
    settled in parallel: t_j has been taken if an earlier draw had the same value, or if t_j = base + i for an
    i < j which itself had to fall back on base + i. That second case is a chain of pointers j -> i, followed to
    its end by doubling: at most log2(num) rounds, usually two or three.

    Args:
        draws: int32 [B, num].
        base: int32 [B, 1], pool - num.
    """
    num = draws.shape[-1]
    steps = jnp.arange(num, dtype=jnp.int32)
    pointer = draws - base
    pointer = jnp.where((pointer >= 0) & (pointer < steps), pointer, steps)

    def follow(carry):
        is_taken, pointer, _ = carry
        further = jnp.take_along_axis(pointer, pointer, axis=-1)
        return is_taken | jnp.take_along_axis(is_taken, pointer, axis=-1), further, jnp.any(further != pointer)

    start = (repeats.is_repeat(draws), pointer, jnp.any(pointer != steps))
    is_taken, *_ = jax.lax.while_loop(lambda carry: carry[2], follow, start)
    return jnp.where(is_taken, base + steps, draws)
