"""One post-norm transformer encoder for BERT and its relatives, in Flax Linen.

What sets a family apart is a field of `TransformerConfig`: the encoder and the heads ask for no family's name.

References:
    Devlin et al., "BERT", NAACL 2019. Liu et al., "RoBERTa", arXiv 1907.11692.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models import disentangled, encoder_checks, ranges, remat
from codir_jax.models.attention import attend
from codir_jax.models.dropout import dropout, dropout_seed
from codir_jax.models.layers import activate, dense, embed, layer_norm, weights_init
from codir_jax.models.outputs import EncoderOutput
from codir_jax.models.relative_bias import NUM_BUCKETS, RelativeBias
from codir_jax.models.weights import rows
from codir_jax.models.word_table import ReadsWords, word_table
from codir_jax.processes.user_error import UserError

# What the fields of a `TransformerConfig` may be, where they are not None.
RANGES = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_heads", "intermediate_size", "type_vocab_size"), ranges.SIZE),
    "num_layers": ranges.LAYERS,
    **dict.fromkeys(("max_positions", "embedding_width"), ranges.SIZE),
    "relative_buckets": ranges.Range(NUM_BUCKETS, NUM_BUCKETS),
    "relative_span": ranges.Range(2, ranges.LARGEST),
    "pad_token_id": ranges.ID,
    "layer_norm_eps": ranges.EPSILON,
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "classifier_dropout"), ranges.RATE),
    "initializer_range": ranges.SPREAD,
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and constants of one encoder and of the heads on it."""

    family: str  # of `contract.family`: who reads and writes its checkpoints
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int  # rows of the position table, or the longest text where there is none
    type_vocab_size: int | None  # None: token types are not looked at
    layer_norm_eps: float
    pad_token_id: int
    position_offset: int  # first row used for a real token: 0 (BERT), pad_token_id + 1 (RoBERTa)
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None  # None: as hidden_dropout
    initializer_range: float = 0.02  # standard deviation of fresh weights
    hidden_act: str = "gelu"
    positions_skip_padding: bool = False  # positions number the tokens that are not padding (RoBERTa), not the columns
    dropout_before_pooler: bool = False  # of a classifier, beside the one after it
    classifier_act: str = "tanh"  # between a classifier's two linear layers
    masked_lm_act: str | None = None  # of a masked LM's transform; None: as hidden_act
    embedding_width: int | None = None  # of the embeddings, where a projection makes states of them; None: hidden_size
    has_positions: bool = True  # whether positions are added to the words
    relative_buckets: int | None = None  # of `relative_bias`; None: no such bias
    relative_span: int | None = None  # rows of `disentangled.Distances` on each side; None: no such term
    has_pooler: bool = True  # whether an encoder alone has one, which the pooling "pooler" needs
    pooling: str = "mean"  # of `pooling.POOLINGS`: how a sentence encoder makes one vector of a text

    # What the heads ask of any encoder, and is the same of all of these.
    norm_bias: ClassVar[bool] = True  # a norm adds a bias
    head_bias: ClassVar[bool] = True  # so does the layer of a head that meets the states
    classifier_pooling: ClassVar[str] = "cls"  # of `pooling.POOLINGS`: what of the states a classifier reads
    classifier_norm: ClassVar[bool] = False  # a classifier has a norm before its last layer

    def __post_init__(self) -> None:
        encoder_checks.check(self, RANGES)
        if self.max_length < 1:
            raise UserError(
                f"max_positions {self.max_positions} leaves no position after the offset {self.position_offset}"
            )

    @property
    def max_length(self) -> int:
        """The longest input, in tokens: 512 for RoBERTa's 514 positions."""
        return self.max_positions - self.position_offset

    @property
    def word_width(self) -> int:
        """Of a row of the word table."""
        return self.embedding_width or self.hidden_size

    @property
    def has_projection(self) -> bool:
        """Whether embeddings become states by a linear layer."""
        return self.word_width != self.hidden_size

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def in_words(self) -> str:
        """Its sizes, for a model card."""
        return f"{self.num_layers} layers, {self.hidden_size} hidden features and {self.num_heads} heads"


def flops(config: TransformerConfig, seq_len: int) -> float:
    """Operations of the forward pass of one text of `seq_len` tokens, padding included: it is computed too.

    A multiply-add counts 2. With H hidden_size, F intermediate_size and L tokens, each layer takes

        8 L H^2  (query, key, value, output)  +  4 L^2 H  (scores, weighted sum)  +  4 L H F  (feed-forward)

    embeddings of another width E are projected, 2 L E H, and where scores know content against distance each layer
    takes 4 L (2 L - 1) H more (the projections of distances, once a batch, are left out). Look-ups, biases, layer
    norms, softmax and GELU are left out, as is usual, so that the number compares with published ones.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    projections = 8 * seq_len * hidden**2
    attention = 4 * seq_len**2 * hidden
    feed_forward = 4 * seq_len * hidden * inner
    into_states = 2 * seq_len * config.word_width * hidden if config.has_projection else 0
    of_distances = 0 if config.relative_span is None else 4 * seq_len * (2 * seq_len - 1) * hidden
    return float(config.num_layers * (projections + attention + feed_forward + of_distances) + into_states)


class Embeddings(nn.Module):
    """Sum of word, position and token-type embeddings, those that there are, normalised; in the width of the states."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c = self.config
        self.word = word_table(c, self.dtype)
        if c.has_positions:
            self.position = embed(c, c.max_positions, "position", None, jnp.float32, c.word_width)
        if c.type_vocab_size is not None:
            self.token_type = embed(c, c.type_vocab_size, "token_type", None, jnp.float32, c.word_width)
        self.norm = layer_norm(c, "norm", None)
        if c.has_projection:
            self.projection = dense(c, c.hidden_size, ("pooled", "embed"), None, self.dtype)

    def __call__(
        self, input_ids: jax.Array, token_type_ids: jax.Array, seed: jax.Array | None, words: jax.Array | None
    ) -> jax.Array:
        length = input_ids.shape[1]
        if length > self.config.max_length:
            raise UserError(
                f"input of {length} tokens; this {self.config.family} model has positions for {self.config.max_length} "
                f"(max_positions {self.config.max_positions} - offset {self.config.position_offset}); "
                f"set data.max_length to {self.config.max_length} or less"
            )
        words = self.word(input_ids) if words is None else words
        x = words.astype(jnp.float32)
        if self.config.has_positions:
            x = x + rows(self.position.embedding, self._position_ids(input_ids), "position")
        if self.config.type_vocab_size is not None:
            x = x + self.token_type(token_type_ids)
        x = dropout(self.norm(x).astype(self.dtype), self.config.hidden_dropout, seed, site=0)
        return self.projection(x) if self.config.has_projection else x

    def _position_ids(self, input_ids: jax.Array) -> jax.Array:
        """int32 [batch or 1, seq]: the number of the column, or of the token where `positions_skip_padding`. There all
        padding has the row before the first one (which is why padding on the left works there too)."""
        if not self.config.positions_skip_padding:
            return jnp.arange(input_ids.shape[1], dtype=jnp.int32)[None] + self.config.position_offset
        is_token = (input_ids != self.config.pad_token_id).astype(jnp.int32)
        return jnp.cumsum(is_token, axis=1) * is_token + (self.config.position_offset - 1)


class SelfAttention(nn.Module):
    """Each token attends to all real tokens, see `attention.attend`.

    `relative` is what all layers share of distances: float32 scores to add, [1, heads, L, L], or where the config has a
    `relative_span` the vectors of `disentangled.Distances`.
    """

    config: TransformerConfig
    site: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, attention_mask: jax.Array, relative: jax.Array | None, seed: jax.Array | None
    ) -> jax.Array:
        c = self.config
        heads = (c.num_heads, c.head_size)
        project = {
            name: dense(c, c.hidden_size, ("embed", "heads"), name, self.dtype, out_shape=heads)
            for name in ("query", "key", "value")
        }
        query, key, value = (jnp.moveaxis(of(x), 2, 1) for of in project.values())
        of_distances = {"bias": relative}
        if c.relative_span is not None:
            own_site = 1 + 3 * c.num_layers + self.site // 3  # behind those of all layers
            vectors = dropout(relative.astype(self.dtype), c.hidden_dropout, seed, own_site)
            to_query, to_key = (project[name](vectors) for name in ("query", "key"))
            bias = disentangled.added(query, key, to_query, to_key)
            of_distances = {"bias": bias, "scale": disentangled.scale(c.head_size)}
        is_seen = attention_mask[:, None, None, :] > 0
        dropped = {"rate": c.attention_dropout, "seed": seed, "site": self.site}
        mixed = attend(self, query, key, value, is_seen, **of_distances, **dropped)
        return dense(c, c.hidden_size, ("heads", "embed"), "output", self.dtype, in_axes=2)(mixed)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual and a LayerNorm."""

    config: TransformerConfig
    index: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, attention_mask: jax.Array, relative: jax.Array | None, seed: jax.Array | None
    ) -> jax.Array:
        c = self.config
        site = 1 + 3 * self.index  # 0 is the embeddings'
        y = SelfAttention(c, site, self.dtype, name="attention")(x, attention_mask, relative, seed)
        y = dropout(y, c.hidden_dropout, seed, site + 1)
        x = layer_norm(c, "norm", "attention_norm")(x + y).astype(self.dtype)
        y = dense(c, c.intermediate_size, ("embed", "mlp"), "mlp_in", self.dtype)(x)
        y = dense(c, c.hidden_size, ("mlp", "embed"), "mlp_out", self.dtype)(activate(c.hidden_act, y))
        y = dropout(y, c.hidden_dropout, seed, site + 2)
        return layer_norm(c, "norm", "mlp_norm")(x + y).astype(self.dtype)


class Encoder(ReadsWords):
    """Token ids to the hidden states of every layer.

    Attributes:
        config: sizes.
        dtype: of the computation (float32 or bfloat16); weights are float32, as are look-ups, LayerNorm,
            GELU, scores of the attention and softmax.
        remat: of `remat.REMAT`, what is kept for the backward pass.
    """

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config, self.dtype)
        if self.config.relative_buckets is not None:
            self.relative_bias = RelativeBias(self.config.num_heads, weights_init(self.config, "position", "heads"))
        if self.config.relative_span is not None:
            self.distances = disentangled.Distances(self.config)
        self.layers = [Layer(self.config, i, self.dtype, name=f"layer_{i}") for i in range(self.config.num_layers)]

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        words: jax.Array | None = None,
        deterministic: bool = True,
    ) -> EncoderOutput:
        """All hidden states.

        Args:
            input_ids: int32 [batch, seq].
            attention_mask: int32 [batch, seq], 1 for a token, 0 for padding.
            token_type_ids: int32 [batch, seq], which text of a pair; ignored by a model with one token type or none.
            words: float [batch, seq, width], of `words(input_ids)` where they were looked up before.
            deterministic: False applies dropout, rng stream "dropout".
        """
        c = self.config
        seed = dropout_seed(self, deterministic, c.hidden_dropout, c.attention_dropout)
        x = self.embeddings(input_ids, token_type_ids, seed, words)
        relative = None
        if c.relative_buckets is not None:
            relative = self.relative_bias(input_ids.shape[1])
        if c.relative_span is not None:
            relative = self.distances(input_ids.shape[1])
        hidden_states = [x]
        for layer in self.layers:
            x = remat.run(layer, self.remat, x, attention_mask, relative, seed)
            hidden_states.append(x)
        return EncoderOutput(hidden_states=tuple(hidden_states))
