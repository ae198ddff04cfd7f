"""Words drawn from a fixed distribution on the device, by the alias method (Walker, 1977; Vose, 1991).

A draw looks at one cell of V and keeps its word or takes the cell's alias. In a float32 table of running sums the rare
words of a vocabulary of 10,000 would have probabilities wrong by several per cent; here each is exact to 1e-7 of 1 / V.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class AliasTable(NamedTuple):
    """keep: float32 [V], probability that a cell gives its own word. alias: int32 [V], the other word."""

    keep: jax.Array
    alias: jax.Array


def alias_table(probabilities: np.ndarray) -> AliasTable:
    """The table of probabilities float64 [V], which are normalised here."""
    scaled = np.asarray(probabilities, np.float64)
    scaled = scaled / scaled.sum() * len(scaled)
    keep, alias = np.ones(len(scaled)), np.arange(len(scaled))
    small, large = (list(np.flatnonzero(where)) for where in (scaled < 1, scaled >= 1))
    while small and large:
        less, more = small.pop(), large[-1]
        keep[less], alias[less] = scaled[less], more
        scaled[more] -= 1.0 - scaled[less]
        if scaled[more] < 1:
            small.append(large.pop())
    return AliasTable(jnp.asarray(keep, jnp.float32), jnp.asarray(alias, jnp.int32))


def draw(rng: jax.Array, table: AliasTable, num: int) -> jax.Array:
    """int32 [num], independent draws; the same on any number of devices."""
    of_cell, of_choice = jax.random.split(rng)
    cells = jax.random.randint(of_cell, (num,), 0, table.keep.shape[0])
    return jnp.where(jax.random.uniform(of_choice, (num,)) < table.keep[cells], cells, table.alias[cells])
