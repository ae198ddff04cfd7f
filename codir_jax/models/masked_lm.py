"""A masked language model: the words of some positions, by a decoder that is the word embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.compression import factors
from codir_jax.models.contract import family
from codir_jax.models.layers import activate, dense, layer_norm
from codir_jax.models.outputs import MaskedLMOutput, ModelOutput
from codir_jax.models.transformer import TransformerConfig
from codir_jax.models.word_table import WORD_TABLE, OnReader


class MaskedLM(OnReader):
    """Logits over the vocabulary, decoder tied to the word embedding."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        c = self.config
        self.encoder = family(c.family).encoder(c, self.dtype, self.remat)
        self.transform = dense(c, c.word_width, ("embed", "pooled"), None, self.dtype, use_bias=c.head_bias)
        self.transform_norm = layer_norm(c, "pooled", None)
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros_init(), ("vocab",))
        self.decoder_bias = self.param("decoder_bias", bias_init, (c.vocab_size,))

    def __call__(self, *inputs: jax.Array, **more: Any) -> ModelOutput:
        """Logits float32 [batch, p, vocab] and all hidden states; arguments as of `states`."""
        output = self.states(*inputs, **more)
        logits = self.encoder.attend(output.states).astype(jnp.float32) + self.decoder_bias
        return ModelOutput(logits=logits, hidden_states=output.hidden_states)

    def states(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        positions: jax.Array | None = None,
        deterministic: bool = True,
    ) -> MaskedLMOutput:
        """What the decoder would be given, and all hidden states.

        Args:
            input_ids, attention_mask, token_type_ids, words, deterministic: as in `Encoder`.
            positions: int32 [batch, p], the columns to predict; None for all seq. With 15 % of the tokens masked,
                gathering first saves most of the head's work.

        Returns:
            states float [batch, p, width] in the dtype of the computation.
        """
        encoded = self.encoder(input_ids, attention_mask, token_type_ids, words=words, deterministic=deterministic)
        x = encoded.hidden_states[-1]
        if positions is not None:
            x = jnp.take_along_axis(x, positions[..., None], axis=1)
        activation = self.config.masked_lm_act or self.config.hidden_act
        x = self.transform_norm(activate(activation, self.transform(x))).astype(self.dtype)
        return MaskedLMOutput(states=x, hidden_states=encoded.hidden_states)


def decoder(params: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """The decoder in a masked LM's weights: word embedding float32 [vocab, width] and bias float32 [vocab]."""
    encoder, embeddings, word, embedding = WORD_TABLE
    table = params[encoder][embeddings][word][embedding]
    return factors.whole(table) if factors.are_in(table) else table, params["decoder_bias"]
