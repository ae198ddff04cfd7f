"""What is added to the scores of an attention for content against distance, and distance against content.

With distance i - j of a query at i and a key at j, and r(.) the vector of a distance, which all layers share:

    added_ij = q_i . K r(i - j)  +  k_j . Q r(i - j)

where Q and K are the layer's own query and key projections. Distances share a vector by buckets: near ones have their
own, far ones share it in steps that grow.

Only the 2 L - 1 distances that L tokens have are looked up and multiplied. Row i of these products holds its distances
in order, so that shifting every row by one place against the row above puts them over their keys: no gather of [L, L]
scores. Both products hold float [batch, heads, L, 2 L - 1] for a while.

References:
    He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR 2021.
    He et al., "DeBERTaV3", ICLR 2023. The shift is that of Dai et al., "Transformer-XL", ACL 2019, appendix B.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from codir_jax.models.layers import layer_norm, weights_init
from codir_jax.models.products import scores
from codir_jax.models.weights import declared_whole, few_rows

# Content to content, content to distance, distance to content: what is added up in a score.
NUM_PARTS = 3


def buckets(distances: np.ndarray, span: int, longest: int) -> np.ndarray:
    """int32 rows, 0 to 2 span - 1, of a table of distances, of int distances (query - key) of any shape.

    With m = span / 2, a distance up to m has its own row; |d| above has row m + ceil(ln(|d| / m) / ln((longest - 1) /
    m) (m - 1)) on its side; the row of 0 is `span`. Rounded as in float32, which is how the tables were trained.

    Args:
        longest: tokens of the longest text; distances beyond share the last row.
    """
    middle = span // 2
    size = np.maximum(np.abs(distances), middle).astype(np.float32)
    with np.errstate(invalid="ignore"):  # where no distance of the longest text is beyond m
        steps = np.log(size / np.float32(middle)) / np.log(np.float32((longest - 1) / middle)) * np.float32(middle - 1)
    far = (np.ceil(steps) + middle) * np.sign(distances)
    rows = np.where(np.abs(distances) <= middle, distances, far).astype(np.int32)
    return np.clip(rows + span, 0, 2 * span - 1)


class Distances(nn.Module):
    """The vectors of all distances, normalised."""

    config: Any  # with `relative_span` and `max_positions`

    @nn.compact
    def __call__(self, length: int) -> jax.Array:
        """float32 [2 length - 1, hidden], of query - key from length - 1 down to 1 - length."""
        c = self.config
        init = weights_init(c, "position", "embed")
        table = declared_whole(self, "embedding", init, (2 * c.relative_span, c.hidden_size))
        longest = c.max_positions
        every = buckets(np.arange(1 - longest, longest), c.relative_span, longest)
        rows = jnp.asarray(every)[longest + length - 2 - jnp.arange(2 * length - 1, dtype=jnp.int32)]
        return few_rows(layer_norm(c, "norm", "norm")(table), rows)


def added(query: jax.Array, key: jax.Array, query_of: jax.Array, key_of: jax.Array) -> jax.Array:
    """What distances add to the scores of queries by keys, float32 [batch, heads, L, L], already divided.

    Args:
        query, key: float [batch, heads, L, d].
        query_of, key_of: float [2 L - 1, heads, d], projected vectors of `Distances`.
    """
    by_query = _shifted(_products(query, key_of))
    # Of keys the distances run the other way.
    by_key = _shifted(_products(key, query_of[::-1]))
    return by_query + jnp.swapaxes(by_key, 2, 3)


def scale(head_size: int) -> float:
    """What scores are multiplied by, which `added` does itself."""
    return 1.0 / math.sqrt(NUM_PARTS * head_size)


def _products(x: jax.Array, vectors: jax.Array) -> jax.Array:
    """x [batch, heads, L, d] times vectors [n, heads, d], scaled: float32 [batch, heads, L, n]."""
    batch, heads, length, size = x.shape
    vectors = (vectors.astype(jnp.float32) * scale(size)).astype(x.dtype)
    flat = jnp.swapaxes(x, 0, 1).reshape(1, heads, batch * length, size)
    made = scores(flat, jnp.swapaxes(vectors, 0, 1)[None])
    return jnp.swapaxes(made.reshape(heads, batch, length, -1), 0, 1)


def _shifted(x: jax.Array) -> jax.Array:
    """[..., L, 2 L - 1] -> [..., L, L]: of row i the columns from L - 1 - i on."""
    *leading, length, num = x.shape
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)])
    # Read in rows of L, all but the first of them are rows of 2 L - 1 that begin one place later each.
    return padded.reshape(*leading, 2 * length, length)[..., 1:, :].reshape(*leading, length, num)[..., :length]
