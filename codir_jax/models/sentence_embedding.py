"""A sentence encoder: one vector of a text."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from codir_jax.models.contract import family
from codir_jax.models.layers import dense
from codir_jax.models.outputs import EmbeddingOutput
from codir_jax.models.pooling import first, masked_mean
from codir_jax.models.transformer import TransformerConfig
from codir_jax.models.word_table import OnReader


class SentenceEmbedding(OnReader):
    """One vector of a text, by the config's `pooling`; it is not normalised."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        c = self.config
        self.encoder = family(c.family).encoder(c, self.dtype, self.remat)
        if c.pooling == "pooler":
            self.pooler = dense(c, c.hidden_size, ("embed", "pooled"), None, jnp.float32)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        deterministic: bool = True,
    ) -> EmbeddingOutput:
        """Vectors float32 [batch, hidden] and all hidden states; arguments as in `Encoder`."""
        encoded = self.encoder(input_ids, attention_mask, token_type_ids, words=words, deterministic=deterministic)
        states = encoded.hidden_states[-1]
        vectors = masked_mean(states, attention_mask) if self.config.pooling == "mean" else first(states)
        if self.config.pooling == "pooler":
            vectors = jnp.tanh(self.pooler(vectors))
        return EmbeddingOutput(vectors=vectors, hidden_states=encoded.hidden_states)
