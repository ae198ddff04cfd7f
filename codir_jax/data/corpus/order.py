"""Which chunks a step reads: a function of (seed, step), in memory that does not grow with the corpus.

A unit is `chunks_per_document` neighbouring rows of a source; where it begins shifts with each pass, so that all pairs
of neighbours meet. An epoch gives each source weight * its units, mixed uniformly by a pseudo-random permutation of
indices; a source goes through all its units, newly shuffled, before one comes again. Numbers are counted on over
epochs: nothing is lost or doubled where a pass ends within an epoch.

The permutation is grain's index_shuffle (a block cipher on indices; the order is computed, never stored). grain's own
shuffled data sets take seed + epoch as its key, so that run 1 would begin with the second epoch of run 0; here the key
is a hash of seed, source and pass.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

_MIXING = 1 << 30  # instead of a source, in the key of an epoch's mixture


@dataclasses.dataclass(frozen=True)
class Order:
    """See the module.

    Attributes:
      source_offsets: first row of each source and the end, [num_sources + 1].
      weights: of each source.
      batch_size: rows of a global batch.
      unit_size: neighbouring rows that come together.
      seed: of the run.
    """

    source_offsets: tuple[int, ...]
    weights: tuple[float, ...]
    batch_size: int
    unit_size: int
    seed: int

    def __post_init__(self):
        if self.batch_size % self.unit_size:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by {self.unit_size} neighbouring chunks")

    @functools.cached_property
    def num_units(self) -> list[int]:
        """Units that an epoch takes from each source."""
        return [
            max(1, round(weight * units)) if units else 0
            for weight, units in zip(self.weights, self._units_of_pass, strict=True)
        ]

    @property
    def steps_per_epoch(self) -> int:
        return -(-sum(self.num_units) * self.unit_size // self.batch_size)

    def rows(self, step: int, part: slice | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of a step's batch and the pass of its source over each; -1 and 0 fill up.

        Args:
          step: counted from 0 over all epochs.
          part: of the batch, for which alone is computed; None is the whole.

        Returns:
          (rows int64 [k], passes int64 [k]).
        """
        start, stop, _ = (part or slice(None)).indices(self.batch_size)
        epoch, position = divmod(step, self.steps_per_epoch)
        counts = self.num_units
        ends = np.cumsum(counts).tolist()
        key = _key(self.seed, _MIXING, epoch)
        first, last = start // self.unit_size, -(-stop // self.unit_size)
        rows = np.full((last - first, self.unit_size), -1, np.int64)
        passes = np.zeros_like(rows)
        for i in range(last - first):
            place = position * (self.batch_size // self.unit_size) + first + i
            if place >= ends[-1]:
                break
            mixed = _shuffled(place, ends[-1], key)
            source = bisect.bisect_right(ends, mixed)
            taken = epoch * counts[source] + mixed - (ends[source] - counts[source])
            number_of_pass, unit = divmod(taken, self._units_of_pass[source])
            rows[i] = self._rows_of_unit(source, number_of_pass, unit)
            passes[i] = number_of_pass
        inner = slice(start - first * self.unit_size, stop - first * self.unit_size)
        return rows.ravel()[inner], np.where(rows >= 0, passes, 0).ravel()[inner]

    @functools.cached_property
    def _units_of_pass(self) -> list[int]:
        return [-(-size // self.unit_size) for size in np.diff(self.source_offsets).tolist()]

    def _rows_of_unit(self, source: int, number_of_pass: int, unit: int) -> np.ndarray:
        start, end = self.source_offsets[source], self.source_offsets[source + 1]
        size = end - start
        key = _key(self.seed, source, number_of_pass)
        unit = _shuffled(unit, self._units_of_pass[source], key)
        # Round the source, so that with any offset each row comes exactly once.
        places = np.arange(unit * self.unit_size, (unit + 1) * self.unit_size)
        offset = key % self.unit_size
        return np.where(places < size, start + (places + offset) % size, -1)


def order_of(
    source_offsets: Sequence[int], weights: Sequence[float], *, batch_size: int, unit_size: int, seed: int
) -> Order:
    """Returns the Order of a split; see `Order`."""
    return Order(tuple(map(int, source_offsets)), tuple(map(float, weights)), batch_size, unit_size, seed)


def _shuffled(index: int, count: int, key: int) -> int:
    import grain

    if count == 1:
        return 0
    return grain.experimental.index_shuffle(index, max_index=count - 1, seed=key, rounds=4)


@functools.lru_cache(maxsize=1024)
def _key(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
