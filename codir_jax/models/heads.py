"""Heads on the encoder: sequence classification or regression, and masked LM.

Both families use one parameter tree: {"encoder", "pooler", "classifier"} or {"encoder", "transform",
"transform_norm", "decoder_bias"}. RoBERTa's `classifier.dense` is a pooler by another name: it differs from BERT's
in the dropout before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.outputs import MaskedLMOutput, ModelOutput
from codir_jax.models.transformer import (
    ACTIVATIONS,
    REMAT,
    Encoder,
    TransformerConfig,
    dense,
    dropout,
    dropout_seed,
    layer_norm,
)
from codir_jax.processes.user_error import UserError

HEADS = ("classification", "masked_lm")


class SequenceClassifier(nn.Module):
    """Logits from the first token. Regression is `num_labels=1`.

    BERT: pooler, tanh, dropout, classifier. RoBERTa: dropout, dense, tanh, dropout, out_proj.
    """

    config: TransformerConfig
    num_labels: int
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        c = self.config
        self.encoder = Encoder(c, self.dtype, self.remat)
        # The head is a few rows: float32 costs nothing there and keeps logits exact under bfloat16.
        self.pooler = dense(c, c.hidden_size, ("embed", "pooled"), None, jnp.float32)
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
        x = encoded.hidden_states[-1][:, 0].astype(jnp.float32)
        c = self.config
        rate = c.hidden_dropout if c.classifier_dropout is None else c.classifier_dropout
        seed = dropout_seed(self, deterministic, rate)
        if c.family == "roberta":
            x = dropout(x, rate, seed, site=0)
        x = dropout(jnp.tanh(self.pooler(x)), rate, seed, site=1)
        return ModelOutput(logits=self.classifier(x), hidden_states=encoded.hidden_states)

    def words(self, input_ids: jax.Array) -> jax.Array:
        """As `Encoder.words`."""
        return self.encoder.words(input_ids)


class MaskedLM(nn.Module):
    """Logits over the vocabulary, decoder tied to the word embedding."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        c = self.config
        self.encoder = Encoder(c, self.dtype, self.remat)
        self.transform = dense(c, c.hidden_size, ("embed", "pooled"), None, self.dtype)
        self.transform_norm = layer_norm(c, "pooled", None)
        bias_init = nn.with_logical_partitioning(nn.initializers.zeros_init(), ("vocab",))
        self.decoder_bias = self.param("decoder_bias", bias_init, (c.vocab_size,))

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        positions: jax.Array | None = None,
        deterministic: bool = True,
    ) -> ModelOutput:
        """Logits float32 [batch, p, vocab] and all hidden states; arguments as of `states`."""
        output = self.states(
            input_ids,
            attention_mask,
            token_type_ids,
            words=words,
            positions=positions,
            deterministic=deterministic,
        )
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
            states float [batch, p, hidden] in the dtype of the computation.
        """
        encoded = self.encoder(input_ids, attention_mask, token_type_ids, words=words, deterministic=deterministic)
        x = encoded.hidden_states[-1]
        if positions is not None:
            x = jnp.take_along_axis(x, positions[..., None], axis=1)
        # RoBERTa's lm_head is "gelu" whatever hidden_act says; BERT's follows hidden_act (transformers).
        activation = ACTIVATIONS["gelu" if self.config.family == "roberta" else self.config.hidden_act]
        x = self.transform_norm(activation(self.transform(x))).astype(self.dtype)
        return MaskedLMOutput(states=x, hidden_states=encoded.hidden_states)

    def words(self, input_ids: jax.Array) -> jax.Array:
        """As `Encoder.words`."""
        return self.encoder.words(input_ids)


def decoder(params: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """The decoder in a masked LM's weights: word embedding float32 [vocab, hidden] and bias float32 [vocab]."""
    return params["encoder"]["embeddings"]["word"]["embedding"], params["decoder_bias"]


def build_model(
    config: TransformerConfig,
    head: str = "classification",
    num_labels: int = 2,
    dtype: Any = jnp.float32,
    remat: str = "none",
) -> SequenceClassifier | MaskedLM:
    """The module for `head`: "classification" (regression: num_labels 1) or "masked_lm" (num_labels unused).

    `remat`, of `transformer.REMAT`, is what the forward pass keeps for the backward pass.
    """
    if remat not in REMAT:
        raise UserError(f"unknown remat {remat!r}; known: {', '.join(REMAT)}")
    if head == "classification":
        if num_labels < 1:
            raise UserError(f"num_labels must be at least 1, got {num_labels}")
        return SequenceClassifier(config, num_labels, jnp.dtype(dtype), remat)
    if head == "masked_lm":
        return MaskedLM(config, jnp.dtype(dtype), remat)
    raise UserError(f"unknown head {head!r}; known: {', '.join(HEADS)}")


def init_params(model: SequenceClassifier | MaskedLM, rng: jax.Array) -> dict:
    """Fresh float32 weights in logical-axis boxes: normal(0, initializer_range), zero biases, unit norms.

    Pure: `jax.eval_shape(functools.partial(init_params, model), rng)` gives shapes with their axes, and
    `sharding.rules.unbox` the plain nested dict.
    """
    ids = jnp.zeros((1, 1), jnp.int32)
    return model.init(rng, ids, jnp.ones_like(ids), jnp.zeros_like(ids))["params"]


def abstract_params(model: SequenceClassifier | MaskedLM) -> dict:
    """Boxed tree of jax.ShapeDtypeStruct: what `init_params` would return, at no cost."""
    return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
