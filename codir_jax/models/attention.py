"""The attention that encoders share, given its queries, keys and values; and what it lets others look at."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.dropout import dropout
from codir_jax.models.products import scores

# Large enough that exp() of it is 0 in float32, finite so that a row with no token at all gives a uniform
# attention instead of NaN.
MASKED_SCORE = -1e9
# Collection of the raw attention scores, see `models.apply.apply_with_scores`.
SCORES = "attention_scores"
# Collection of queries, keys and values, see `models.apply.projections_of`.
PROJECTIONS = "attention_projections"


def attend(
    module: nn.Module,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    is_seen: jax.Array,
    *,
    rate: float,
    seed: jax.Array | None,
    site: int,
    bias: jax.Array | None = None,
    scale: float | None = None,
) -> jax.Array:
    """softmax(scale Q K^T + bias) V, softmax in float32, dropout on the probabilities.

    Not `jax.nn.dot_product_attention`: it has no dropout argument, and BERT is trained with it.

    Args:
        module: of the layer's attention, whose collections SCORES and PROJECTIONS are filled where they are asked for.
        query, key, value: float [batch, heads, tokens, d], in the dtype of the computation.
        is_seen: bool, broadcast to [batch, heads, queries, keys]: whether a query attends to a key.
        rate, seed, site: of the dropout.
        bias: float32, broadcast to [batch, heads, queries, keys].
        scale: None: 1 / sqrt(d).

    Returns:
        float [batch, tokens, heads, d].
    """
    dtype = query.dtype
    # Nothing is kept of what is sown unless `apply` asks for the collection.
    module.sow(PROJECTIONS, "vectors", {"query": query, "key": key, "value": value})
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    query = (query.astype(jnp.float32) * scale).astype(dtype)
    raw = scores(query, key) if bias is None else scores(query, key) + bias
    module.sow(SCORES, "scores", raw)
    masked = jnp.where(is_seen, raw, MASKED_SCORE)
    probabilities = jax.nn.softmax(masked, axis=-1).astype(dtype)
    probabilities = dropout(probabilities, rate, seed, site)
    return jnp.moveaxis(jnp.einsum("bnqk,bnkd->bnqd", probabilities, value), 1, 2)
