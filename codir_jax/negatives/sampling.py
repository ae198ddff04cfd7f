"""Ids of negative rows, drawn uniformly on the device: for each example, or one pool for the whole batch.

Rows are sorted by class once, on the hosts; the rows of all other classes are then two ranges, and a draw is
one random integer and one lookup, whatever the size of the training set. Without replacement the draw is
exact and never permutes the pool: Floyd's algorithm needs num random integers and two sorts of them.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.negatives import repeats, row_tables
from codir_jax.processes.user_error import UserError

_LABELS_AT_ONCE = 1 << 22
# Of a word of a set of classes; the sign of an int32 is left out.
_BITS = 31


def class_starts(labels) -> np.ndarray:
    """Where each class begins among the training rows sorted by class, the unlabelled ones last.

    Args:
        labels: int [N], class of each training row in 0..C-1; -1 = unlabelled. An array, or what gives one for each
            slice: it is read a part at a time.

    Returns:
        int32 [C + 2]: class c has the places starts[c] .. starts[c + 1] - 1, unlabelled rows those from starts[C] on;
        starts[C + 1] is N.

    Raises:
        ValueError: the labels are not integers >= -1.
        UserError: all labelled rows are of one class.
    """
    sizes = np.zeros(1, np.int64)  # of the unlabelled ones, then of each class
    for part in _parts(labels):
        if part.ndim != 1 or not np.issubdtype(part.dtype, np.integer):
            raise ValueError(
                f"labels must be integers [N], got {part.dtype} {list(part.shape)}; "
                "bin regression targets with bin_labels"
            )
        if part.size and part.min() < -1:
            raise ValueError(f"labels must be >= -1 (-1 = unlabelled), got {part.min()}")
        found = np.bincount(part + 1)
        sizes, found = (np.pad(x, (0, max(len(sizes), len(found)) - len(x))) for x in (sizes, found))
        sizes += found
    present = np.flatnonzero(sizes[1:])
    if len(present) == 1:
        raise UserError(
            f"all {sizes[1:].sum()} labelled rows are of class {present[0]}: there is no row of another class "
            "to draw; use negatives that are not label-aware"
        )
    return np.cumsum([0, *sizes[1:], sizes[0]]).astype(np.int32)


def rows_by_class(labels, starts: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Training rows in order of class, unlabelled ones last, rows of a class ascending: some places of that order.

    Args:
        labels: as of `class_starts`, read once, a part at a time.
        starts: from `class_starts`.
        start, stop: places; stop None is N.

    Returns:
        int32 [stop - start].
    """
    stop = int(starts[-1]) if stop is None else stop
    found = np.zeros(max(stop - start, 0), np.int32)
    cursor, first = starts[:-1].astype(np.int64), 0
    for part in _parts(labels):
        key = np.where(part < 0, len(cursor) - 1, part)
        order = np.argsort(key, kind="stable")
        sizes = np.bincount(key, minlength=len(cursor))
        # In the part sorted by class each row lies so far behind its class's first.
        places = np.repeat(cursor - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(part))
        wanted = (places >= start) & (places < stop)
        found[places[wanted] - start] = first + order[wanted]
        cursor, first = cursor + sizes, first + len(part)
    return found


def smallest_pool(starts: np.ndarray) -> int:
    """Fewest rows that any class present in train can draw from; N when nothing is labelled.

    The released code drew with replacement, for all classes, when num >= this number.

    Args:
        starts: from `class_starts`.

    Returns:
        The number of labelled rows outside the largest class.
    """
    sizes = np.diff(starts)[:-1]
    return int(sizes.sum() - sizes.max()) if sizes.size else int(starts[-1])


def _parts(labels) -> Iterator[np.ndarray]:
    """The labels, so many at a time that a host has room for them whatever their number."""
    for start in range(0, max(len(labels), 1), _LABELS_AT_ONCE):
        yield np.asarray(labels[start : start + _LABELS_AT_ONCE])


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


def label_sets(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sets of classes as numbers, so that rows with any number of classes have one label each (ours).

    Args:
        labels: [N, C] of 0 and 1.

    Returns:
        (int32 [N], the number of each row's set; int32 [S, ceil(C / 31)], its classes as bits, 31 a word: two rows have
        a class in common where a word of both has a bit in common. The empty set has one with none, itself included.)
    """
    sets, numbers = np.unique(np.asarray(labels) > 0, axis=0, return_inverse=True)
    bits = np.pad(sets, ((0, 0), (0, -sets.shape[1] % _BITS))).reshape(len(sets), -1, _BITS)
    return numbers.reshape(-1).astype(np.int32), (bits << np.arange(_BITS)).sum(axis=-1).astype(np.int32)


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
        index: {"sorted_rows": of `rows_by_class`, "starts": of `class_starts`}; more sorted rows than N, which nobody
            draws, are allowed.
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
    num_rows, num_classes = starts[-1], starts.shape[0] - 2
    is_labelled = anchor_labels >= 0
    label = jnp.clip(anchor_labels, 0, max(num_classes - 1, 0))
    first = starts[label]
    own_size = starts[jnp.minimum(label + 1, num_classes)] - first
    all_size = num_rows if own_ids is None else num_rows - 1
    pool = jnp.where(is_labelled, starts[num_classes] - own_size, all_size)
    draws = _draw(rng, pool, num, replace)
    # Positions in the sorted order, stepping over the anchor's own class.
    places = jnp.where(draws >= first[:, None], draws + own_size[:, None], draws)
    other = row_tables.look_up(sorted_rows, places)
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
