"""Several texts in one line of tokens: where each of them begins, and how long it is."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class TextsInLine(NamedTuple):
    """Of the text that each token is of.

    Attributes:
        begins: int32 [batch, seq], the place of its first token in the line.
        lengths: int32 [batch, seq], its tokens; anything on padding.
    """

    begins: jax.Array
    lengths: jax.Array

    def places(self) -> jax.Array:
        """The place of each token within its text, int32 [batch, seq]; 0 where a text begins."""
        return jnp.arange(self.begins.shape[1]) - self.begins


def one_text(attention_mask: jax.Array) -> TextsInLine:
    """A text a line, with padding behind it; mask int32 [batch, seq]."""
    lengths = attention_mask.sum(axis=1, keepdims=True, dtype=jnp.int32)
    return TextsInLine(jnp.zeros(attention_mask.shape, jnp.int32), jnp.broadcast_to(lengths, attention_mask.shape))
