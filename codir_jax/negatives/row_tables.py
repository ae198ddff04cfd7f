"""Tables with a row for each train row, split by rows over the devices as a bank is, and read by id.

No device and no host holds a whole one: a host makes the rows of its devices, and a step sends the ids that it looks up
and their rows. Shapes: a table has `num_rows(N)` rows for N train rows, at least one more than N, so that the id N of a
padded row finds one that says "nothing".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.negatives import memory_bank
from codir_jax.sharding.rules import constrain, with_axes


class RowTable(NamedTuple):
    """A table that is made a part at a time.

    Attributes:
      num_train: N, rows that `read` gives.
      shape: of a row. dtype: of numpy.
      nothing: fills the rows from N on.
      read: (start, stop) -> [stop - start, *shape], of 0 <= start <= stop <= N.
    """

    num_train: int
    shape: tuple[int, ...]
    dtype: Any
    nothing: int
    read: Callable[[int, int], np.ndarray]

    def part(self, start: int, stop: int) -> np.ndarray:
        """The rows start .. stop - 1 of the table, those behind the train rows included."""
        rows = np.full((stop - start, *self.shape), self.nothing, self.dtype)
        last = min(stop, self.num_train)
        if start < last:
            rows[: last - start] = self.read(start, last)
        return rows

    def placed(self, sharding) -> jax.Array:
        """The table on the devices; each process makes the rows of its own."""
        size = num_rows(self.num_train)
        return jax.make_array_from_callback(
            (size, *self.shape), sharding, lambda index: self.part(*index[0].indices(size)[:2])
        )


def num_rows(num_train: int) -> int:
    """Rows of a table: like a bank's, so many that any usual number of devices shares them evenly."""
    return memory_bank.padded_rows(num_train + 1)


def stand_in(num_train: int, *shape: int, dtype=jnp.int32, nothing: int = -1):
    """What has the shape of a table and its logical axes, where there are no rows yet."""
    table = jnp.full((num_rows(num_train), *shape), nothing, dtype)
    return with_axes(table, "bank_rows", *(None,) * len(shape))


def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """The rows `ids` of a table, whole on every device: each gives those that it has, and they are summed.

    Args:
      table: [rows, ...].
      ids: int32 of any shape, >= 0; one behind the table reads its last row.

    Returns:
      [*ids.shape, ...].
    """
    return constrain(jnp.take(table, constrain(ids), axis=0, mode="clip"))
