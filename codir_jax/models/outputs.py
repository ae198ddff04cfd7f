"""What a forward pass returns: every intermediate, so that distillation needs no hooks."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class EncoderOutput:
    """Attributes:
    hidden_states: num_layers + 1 arrays, float [batch, seq, hidden]: the embeddings, then the output of each layer.
    """

    hidden_states: tuple[jax.Array, ...]


@flax.struct.dataclass
class ModelOutput:
    """Attributes:
    logits: float32 [batch, classes] (classification and regression) or [batch, positions, vocab] (masked LM).
    hidden_states: as in `EncoderOutput`.
    """

    logits: jax.Array
    hidden_states: tuple[jax.Array, ...]


@flax.struct.dataclass
class EmbeddingOutput:
    """Attributes:
    vectors: float32 [batch, hidden], one of each text, of any norm.
    hidden_states: as in `EncoderOutput`.
    """

    vectors: jax.Array
    hidden_states: tuple[jax.Array, ...]


@flax.struct.dataclass
class MaskedLMOutput:
    """A masked LM up to its decoder, whose products with the vocabulary are the loss's to make.

    Attributes:
    states: float [batch, positions, hidden]; logits are states table^T + bias, see `masked_lm.decoder`.
    hidden_states: as in `EncoderOutput`.
    """

    states: jax.Array
    hidden_states: tuple[jax.Array, ...]


@flax.struct.dataclass
class RecurrentOutput:
    """Attributes:
    hidden_states: as in `EncoderOutput`.
    carry: the state of each layer after the last token, a tuple of `recurrence.Carry`.
    """

    hidden_states: tuple[jax.Array, ...]
    carry: tuple[Any, ...]


@flax.struct.dataclass
class LanguageModelOutput:
    """A language model up to its decoder, whose products with the vocabulary are the loss's to make.

    Attributes:
    states: float [batch, seq, hidden]; logits are states table^T + bias, see `language_model.decoder`.
    hidden_states: as in `EncoderOutput`. carry: as in `RecurrentOutput`.
    """

    states: jax.Array
    hidden_states: tuple[jax.Array, ...]
    carry: tuple[Any, ...]
