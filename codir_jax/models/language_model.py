"""A language model: a recurrent encoder, and a decoder over the vocabulary on its last states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.contract import family
from codir_jax.models.dropout import dropout, dropout_seed
from codir_jax.models.outputs import LanguageModelOutput, ModelOutput
from codir_jax.models.products import product
from codir_jax.models.weights import declared, transposed
from codir_jax.models.word_table import OnReader


class LanguageModel(OnReader):
    """Logits of the next word at every position, or of the word there in its two-sided context.

    Attributes:
        config: of an encoder that `models.contract` calls with a carry. `decoder_size` is the width of its last states.
    """

    config: Any
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        c = self.config
        self.encoder = family(c.family).encoder(c, self.dtype, self.remat)
        if not c.tie_embeddings:
            self.output_embedding = self._weight("output_embedding", ("vocab", "embed"), (c.vocab_size, c.decoder_size))
        self.output_bias = self._weight("output_bias", ("vocab",), (c.vocab_size,))

    def _weight(self, name: str, axes: tuple[str, ...], shape: tuple[int, ...]) -> jax.Array:
        limit = self.config.initializer_range

        def init(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -limit, limit)

        return declared(self, name, nn.with_logical_partitioning(init, axes), shape)

    def __call__(self, *inputs: jax.Array, deterministic: bool = True, **more: Any) -> ModelOutput:
        """Logits float32 [batch, seq, vocab] and all hidden states; arguments as of `states`."""
        output = self.states(*inputs, deterministic=deterministic, **more)
        table = self.encoder.embedding if self.config.tie_embeddings else self.output_embedding
        logits = product(output.states, transposed(table)).astype(jnp.float32) + self.output_bias
        return ModelOutput(logits=logits, hidden_states=output.hidden_states)

    def states(self, *inputs: jax.Array, deterministic: bool = True, **more: Any) -> LanguageModelOutput:
        """What the decoder is given, all hidden states, and the state after the last token.

        Args:
            inputs, more: of the family's encoder: input_ids, attention_mask, token_type_ids; words, carry.
            deterministic: no dropout.
        """
        encoded = self.encoder(*inputs, deterministic=deterministic, **more)
        rate = self.config.hidden_dropout
        states = dropout(encoded.hidden_states[-1], rate, dropout_seed(self, deterministic, rate), site=0)
        return LanguageModelOutput(states=states, hidden_states=encoded.hidden_states, carry=encoded.carry)


def decoder(params: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """The decoder in a language model's weights: table float32 [vocab, hidden], or its factors, and bias [vocab]."""
    tied = params["encoder"]["embedding"]
    return params.get("output_embedding", tied), params["output_bias"]
