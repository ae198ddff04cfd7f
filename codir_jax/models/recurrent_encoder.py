"""The recurrent encoders of LSTM language models, and their sizes.

    x_t = E[w_t];   i, f, g, o = W_x x_t + W_h h_{t-1} + b;   c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);
    h_t = sigmoid(o) tanh(c_t)

with layers on top of each other and dropout on what goes from layer to layer, never on h_{t-1} (Zaremba et al.,
"Recurrent Neural Network Regularization", arXiv 1409.2329). The state of a layer comes in and goes out, so that a
stream of text can be cut into windows. Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000.

A bi-directional one (He et al., arXiv 1602.06064) has a second stack that reads from the end, `BothDirections`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models import both_directions, ranges
from codir_jax.models.contract import NO_LIMIT
from codir_jax.models.dropout import dropout, dropout_seed
from codir_jax.models.outputs import RecurrentOutput
from codir_jax.models.products import plus_bias, product
from codir_jax.models.recurrence import Carry, recur, zero_carry
from codir_jax.models.texts_in_line import TextsInLine, one_text
from codir_jax.models.weights import declared, rows
from codir_jax.processes.user_error import UserError

# What the numbers of a `LSTMConfig` may be.
RANGES = {
    "vocab_size": ranges.SIZE,
    "hidden_size": ranges.SIZE,
    "num_layers": ranges.LAYERS,
    "embedding_size": ranges.ID,
    "pad_token_id": ranges.ID,
    "hidden_dropout": ranges.RATE,
    "initializer_range": ranges.SPREAD,
}


@dataclasses.dataclass(frozen=True)
class LSTMConfig:
    """Sizes and constants of one recurrent encoder and of the language model on it."""

    vocab_size: int
    pad_token_id: int
    hidden_size: int = 200  # of every layer
    num_layers: int = 2
    embedding_size: int = 0  # of a word; 0: as hidden_size
    tie_embeddings: bool = False  # one table for words that are read and words that are predicted
    hidden_dropout: float = 0.0  # of what goes into a layer and into the decoder
    initializer_range: float = 0.1  # fresh weights are uniform in +- this
    bidirectional: bool = False  # a word is predicted from what stands before and behind it
    unnormalised: bool = False  # the score of a sentence is a sum of logits, not of log probabilities
    residual: bool = False  # to that score ln q is added, of the n-gram model that lies beside the weights
    family: str = "lstm"

    def __post_init__(self) -> None:
        for name, known in RANGES.items():
            known.check(name, getattr(self, name))
        if self.pad_token_id >= self.vocab_size:
            raise UserError(f"pad_token_id {self.pad_token_id} is no word of the {self.vocab_size} of vocab_size")
        if self.tie_embeddings and self.input_size != self.decoder_size:
            raise UserError(
                f"tied embeddings need embedding_size {self.embedding_size} = hidden_size {self.hidden_size}; leave "
                "embedding_size 0"
            )

    @property
    def input_size(self) -> int:
        """Width of a word's vector."""
        return self.embedding_size or self.hidden_size

    @property
    def decoder_size(self) -> int:
        """Width of what words are predicted from: of the last layer, or of the mixture of both directions."""
        return self.input_size if self.bidirectional else self.hidden_size

    @property
    def max_length(self) -> int:
        """The longest input, in tokens: there is no longest one."""
        return NO_LIMIT

    @property
    def in_words(self) -> str:
        """Its sizes, for a model card."""
        tied = ", tied embeddings" if self.tie_embeddings else ""
        both = ", read in both directions" if self.bidirectional else ""
        return f"{self.num_layers} layers of {self.hidden_size} units{both}{tied}"


def uniform(config: LSTMConfig, *axes: str):
    """Initializer of a weight with these logical axes: uniform in +- initializer_range."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -config.initializer_range, config.initializer_range)

    return nn.with_logical_partitioning(init, axes)


class Layer(nn.Module):
    """One recurrent layer; the products of all steps with W_x are one product before the first step."""

    config: LSTMConfig
    in_size: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c, width = self.config, 4 * self.config.hidden_size
        self.input_kernel = declared(self, "input_kernel", uniform(c, "embed", "mlp"), (self.in_size, width))
        self.recurrent_kernel = declared(self, "recurrent_kernel", uniform(c, "embed", "mlp"), (c.hidden_size, width))
        self.bias = self.param("bias", uniform(c, "norm"), (width,))

    def __call__(self, x: jax.Array, carry: Carry, kept: jax.Array | None = None) -> tuple[jax.Array, Carry]:
        """(h_t of every step float [time, batch, hidden], the state after the last) of x float [time, batch, in]."""
        inputs = plus_bias(product(x.astype(self.dtype), self.input_kernel).astype(jnp.float32), self.bias)
        return recur(self.dtype, inputs, self.recurrent_kernel, carry, kept)


def stack(config: LSTMConfig, dtype: jnp.dtype, name: str) -> list[Layer]:
    """The layers of one direction, called "name_0", ...; the first reads words, each other one the layer below."""
    in_sizes = (config.input_size, *(config.hidden_size,) * (config.num_layers - 1))
    return [Layer(config, size, dtype, name=f"{name}_{i}") for i, size in enumerate(in_sizes)]


class Encoder(nn.Module):
    """Embedding and layers that read from left to right."""

    config: LSTMConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c = self.config
        self.embedding = declared(self, "embedding", uniform(c, "vocab", "embed"), (c.vocab_size, c.input_size))
        self.layers = stack(c, self.dtype, "layer")

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        carry: tuple[Carry, ...] | None = None,
        texts: TextsInLine | None = None,
        deterministic: bool = True,
    ) -> RecurrentOutput:
        """Hidden states of every layer and the state after the last token.

        Args:
            input_ids: int32 [batch, seq]. Padding stands behind the text, where nothing before it sees it.
            attention_mask, token_type_ids: not looked at.
            words: float [batch, seq, input_size], of `words`, in the place of the look-up.
            carry: the state of each layer before the first token; None: zeros.
            texts: where the state is zero again; None: nowhere, a line is one text.
            deterministic: no dropout.
        """
        del attention_mask, token_type_ids
        words = self.words(input_ids) if words is None else words
        carry = zero_carry(self.config, words.shape[0]) if carry is None else carry
        seed = dropout_seed(self, deterministic, self.config.hidden_dropout)
        states, after = run_layers(self.layers, words, carry, self.config.hidden_dropout, seed, texts=texts)
        return RecurrentOutput(hidden_states=(words, *states), carry=after)

    def words(self, input_ids: jax.Array) -> jax.Array:
        """The word embeddings of int32 ids [...], [..., input_size] in the dtype of the computation."""
        return rows(self.embedding, input_ids, "vocab").astype(self.dtype)


class BothDirections(nn.Module):
    """Embedding, and a stack of layers for each direction: a word is predicted from what stands before and behind it.

        c_t = A f_{t-1} + B b_{t+1}

    f has read <s> w_1 .. w_{t-1}, b has read </s> w_N .. w_{t+1}; where </s> itself is predicted, nothing stands behind
    and B b is 0. So c_t never sees w_t: a layer on top that mixed both would carry w_t into c_t through its neighbours.
    """

    config: LSTMConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c = self.config
        self.embedding = declared(self, "embedding", uniform(c, "vocab", "embed"), (c.vocab_size, c.input_size))
        self.layers = stack(c, self.dtype, "layer")
        self.backward_layers = stack(c, self.dtype, "backward_layer")
        kernel = uniform(c, "embed", "mlp"), (c.hidden_size, c.decoder_size)
        self.left_kernel = declared(self, "left_kernel", *kernel)
        self.right_kernel = declared(self, "right_kernel", *kernel)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        carry: None = None,
        texts: TextsInLine | None = None,
        deterministic: bool = True,
    ) -> RecurrentOutput:
        """Contexts of every position, after the hidden states of the forward layers.

        Args:
            input_ids: int32 [batch, seq], <s> w_1 .. w_N and padding, `config.pad_token_id`, which is </s> too.
            attention_mask: int32 [batch, seq], 1 at the first N + 1 positions. Position t predicts w_{t+1}, N the end.
            token_type_ids: not looked at.
            words: float [batch, seq, input_size], of `words`, in the place of the look-up.
            carry: None: a sentence begins and ends.
            texts: the sentences of each line; None: one, by the mask.
            deterministic: no dropout.
        """
        del token_type_ids
        if carry is not None:
            raise ValueError("a bi-directional model reads whole sentences; it takes no state of a text before")
        c = self.config
        words = self.words(input_ids) if words is None else words
        start = zero_carry(c, words.shape[0])
        seed = dropout_seed(self, deterministic, c.hidden_dropout)
        forward, _ = run_layers(self.layers, words, start, c.hidden_dropout, seed, texts=texts)
        own = one_text(attention_mask) if texts is None else texts
        end = self.words(jnp.full((1, 1), c.pad_token_id, jnp.int32))
        reading = both_directions.reversed_inputs(words, own, end)
        backward, _ = run_layers(self.backward_layers, reading, start, c.hidden_dropout, seed, c.num_layers, texts)
        right = both_directions.behind(backward[-1], own)
        context = product(forward[-1], self.left_kernel) + product(right, self.right_kernel)
        return RecurrentOutput(hidden_states=(words, *forward, context), carry=())

    def words(self, input_ids: jax.Array) -> jax.Array:
        """The word embeddings of int32 ids [...], [..., input_size] in the dtype of the computation."""
        return rows(self.embedding, input_ids, "vocab").astype(self.dtype)


def run_layers(
    layers: list[Layer],
    words: jax.Array,
    carry: tuple[Carry, ...],
    rate: float,
    seed: jax.Array | None,
    first_site: int = 0,
    texts: TextsInLine | None = None,
) -> tuple[tuple[jax.Array, ...], tuple[Carry, ...]]:
    """(the output of each layer, float [batch, seq, hidden], the state of each after the last token).

    Args:
        words: float [batch, seq, input_size]. carry: of each layer, before the first token.
        rate, seed: of the dropout before each layer, drawn at the sites `first_site`, `first_site` + 1, ...
        texts: of each line; None: one that goes on from `carry`.
    """
    kept = None if texts is None else jnp.sign(texts.places()).astype(jnp.float32).T[..., None]
    x = jnp.swapaxes(words, 0, 1)
    states, after = [], []
    for i, (layer, before) in enumerate(zip(layers, carry, strict=True)):
        x, state = layer(dropout(x, rate, seed, first_site + i), before, kept)
        states.append(jnp.swapaxes(x, 0, 1))
        after.append(state)
    return tuple(states), tuple(after)
