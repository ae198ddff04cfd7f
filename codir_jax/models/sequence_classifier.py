"""A classifier or regression on one vector of a text."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from codir_jax.models.contract import family
from codir_jax.models.dropout import dropout, dropout_seed
from codir_jax.models.layers import activate, dense, layer_norm
from codir_jax.models.outputs import EmbeddingOutput, ModelOutput
from codir_jax.models.pooling import first, masked_mean
from codir_jax.models.transformer import TransformerConfig
from codir_jax.models.word_table import OnReader


class SequenceClassifier(OnReader):
    """Logits from the first token, or the mean of the tokens where the config says so. Regression is `num_labels=1`.

    Dropout where the config says so, pooler, tanh or what the config says, a norm where it says so, dropout,
    classifier.
    """

    config: TransformerConfig
    num_labels: int
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        c = self.config
        self.encoder = family(c.family).encoder(c, self.dtype, self.remat)
        # The head is a few rows: float32 costs nothing there and keeps logits exact under bfloat16.
        self.pooler = dense(c, c.hidden_size, ("embed", "pooled"), None, jnp.float32, use_bias=c.head_bias)
        if c.classifier_norm:
            self.pooler_norm = layer_norm(c, "pooled", None)
        self.classifier = dense(c, self.num_labels, ("pooled", "classes"), None, jnp.float32)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        deterministic: bool = True,
    ) -> ModelOutput:
        """Logits float32 [batch, num_labels] and all hidden states; arguments as in `Encoder`."""
        encoded = self.encoder(input_ids, attention_mask, token_type_ids, words=words, deterministic=deterministic)
        pooled, rate, seed = self._pooled(encoded, attention_mask, deterministic)
        return ModelOutput(
            logits=self.classifier(dropout(pooled, rate, seed, site=1)), hidden_states=encoded.hidden_states
        )

    def vectors(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        deterministic: bool = True,
    ) -> EmbeddingOutput:
        """What the classifier is linear in, float32 [batch, hidden], before its dropout; and all hidden states."""
        encoded = self.encoder(input_ids, attention_mask, token_type_ids, words=words, deterministic=deterministic)
        vectors = self._pooled(encoded, attention_mask, deterministic)[0]
        return EmbeddingOutput(vectors=vectors, hidden_states=encoded.hidden_states)

    def _pooled(self, encoded, attention_mask: jax.Array, deterministic: bool):
        """(what the pooler, its activation and its norm give, dropout rate of the head, its seed)."""
        c = self.config
        rate = c.hidden_dropout if c.classifier_dropout is None else c.classifier_dropout
        seed = dropout_seed(self, deterministic, rate)
        states = encoded.hidden_states[-1]
        x = masked_mean(states, attention_mask) if c.classifier_pooling == "mean" else first(states)
        if c.dropout_before_pooler:
            x = dropout(x, rate, seed, site=0)
        x = activate(c.classifier_act, self.pooler(x))
        return self.pooler_norm(x) if c.classifier_norm else x, rate, seed
