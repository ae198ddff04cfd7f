"""One vector of a text from the states of its tokens.

References:
    Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, section 3.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# "mean" over the real tokens, those that start and end a text included; "cls": the first token's state; "pooler": that
# state through a linear layer and tanh, as BERT's pre-training has it.
POOLINGS = ("mean", "cls", "pooler")


def masked_mean(states: jax.Array, attention_mask: jax.Array) -> jax.Array:
    """The mean over real tokens, float32 [batch, hidden]; zeros for a row without any.

    Args:
        states: float [batch, tokens, hidden], summed in float32.
        attention_mask: int32 [batch, tokens], 1 on real tokens.
    """
    mask = attention_mask.astype(jnp.float32)
    weights = mask / jnp.maximum(mask.sum(-1, keepdims=True), 1.0)
    return jnp.einsum("btw,bt->bw", states.astype(jnp.float32), weights)


def first(states: jax.Array) -> jax.Array:
    """The first token's state, float32 [batch, hidden]."""
    return states[:, 0].astype(jnp.float32)


def standardized(states: jax.Array) -> jax.Array:
    """Float [..., width] with zero mean and unit variance over its last axis, float32."""
    states = states.astype(jnp.float32)
    centred = states - states.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6)
