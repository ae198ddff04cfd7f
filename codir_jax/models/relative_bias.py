"""What is added to the scores of an attention for how far apart two tokens are.

Distances share a bucket, near ones alone, far ones in steps that grow; query before and after key are told apart.
With 32 buckets, n = |query - key|:

    n < 8: n        n >= 8: 8 + the number of j in 1..7 with n >= 8 * 2^(j/2)        16 more where the key is behind

References:
    Raffel et al., "Exploring the Limits of Transfer Learning", JMLR 2020, section 2.1, with the largest distance 128.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.weights import declared_whole, few_rows

NUM_BUCKETS = 32
_SIDE = NUM_BUCKETS // 2
_ALONE = _SIDE // 2


def bucket(behind: jax.Array) -> jax.Array:
    """int32 buckets of NUM_BUCKETS of distances `behind`, int32, key - query, of any shape.

    Squares of whole numbers are compared, n^2 >= 64 * 2^j: no rounding moves a distance into another bucket.
    """
    distance = jnp.abs(behind)
    square = jnp.minimum(distance, 1024) ** 2
    steps = sum((square >= _ALONE**2 * 2**j).astype(jnp.int32) for j in range(1, _SIDE - _ALONE))
    return jnp.where(distance < _ALONE, distance, _ALONE + steps) + _SIDE * (behind > 0)


class RelativeBias(nn.Module):
    """Attributes:
    num_heads: each has its own bias.
    table_init: of the table, float32 [NUM_BUCKETS, num_heads].
    """

    num_heads: int
    table_init: Any

    @nn.compact
    def __call__(self, length: int) -> jax.Array:
        """float32 [1, heads, length, length], queries by keys."""
        table = declared_whole(self, "embedding", self.table_init, (NUM_BUCKETS, self.num_heads))
        places = jnp.arange(length, dtype=jnp.int32)
        return jnp.moveaxis(few_rows(table, bucket(places[None, :] - places[:, None])), -1, 0)[None]
