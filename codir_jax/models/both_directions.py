"""A sentence read from its end: the order of what is read, and which of the states stands behind each word.

Sentences of a batch have several lengths, and padding or another sentence stands behind them. So each is turned round
by its own length: a recurrent layer that met the padding first would carry it into every state.
"""

import jax
import jax.numpy as jnp

from codir_jax.models.texts_in_line import TextsInLine


def reversed_inputs(words: jax.Array, texts: TextsInLine, end: jax.Array) -> jax.Array:
    """What the backward stack reads: of each text the end, then its words from the last to the first.

    Args:
        words: float [batch, seq, width] of <s> w_1 .. w_N. texts: where each begins, and N + 1.
        end: float [1, 1, width].
    """
    own = texts.places()
    turned = _at(words, texts.begins + texts.lengths - own)
    return jnp.where(own[..., None] == 0, end, turned)


def behind(states: jax.Array, texts: TextsInLine) -> jax.Array:
    """For every position what the backward stack has read behind the word that is predicted there; 0 where nothing is.

    Args:
        states: float [batch, seq, hidden], in the order of `reversed_inputs`. texts: as there.
    """
    places = texts.lengths - 2 - texts.places()
    return jnp.where(places[..., None] >= 0, _at(states, texts.begins + places), 0.0)


def _at(values: jax.Array, places: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, jnp.clip(places, 0, values.shape[1] - 1)[..., None], axis=1)
