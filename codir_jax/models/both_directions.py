"""A sentence read from its end: the order of what is read, and which of the states stands behind each word.

Sentences of a batch have several lengths, and padding stands behind them. So they are turned round by their lengths:
a recurrent layer that met the padding first would carry it into every state.
"""

import jax
import jax.numpy as jnp


def reversed_inputs(words: jax.Array, lengths: jax.Array, end: jax.Array) -> jax.Array:
    """What the backward stack reads: the end, then the words from the last to the first, then anything.

    Args:
        words: float [batch, seq, width] of <s> w_1 .. w_N. lengths: int32 [batch, 1], N + 1. end: float [1, 1, width].
    """
    places = jnp.arange(words.shape[1])
    turned = jnp.take_along_axis(words, jnp.clip(lengths - places, 0, words.shape[1] - 1)[..., None], axis=1)
    return jnp.where(places[:, None] == 0, end, turned)


def behind(states: jax.Array, lengths: jax.Array) -> jax.Array:
    """For every position what the backward stack has read behind the word that is predicted there; 0 where nothing is.

    Args:
        states: float [batch, seq, hidden], in the order of `reversed_inputs`. lengths: int32 [batch, 1].
    """
    places = lengths - 2 - jnp.arange(states.shape[1])
    found = jnp.take_along_axis(states, jnp.maximum(places, 0)[..., None], axis=1)
    return jnp.where(places[..., None] >= 0, found, 0.0)
