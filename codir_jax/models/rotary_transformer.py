"""A pre-norm transformer encoder with rotary positions, gated feed-forward blocks, layers of two kinds, and no bias.

Every n-th layer, from the first on, is global: a token attends to all others. In the layers between them, the local
ones, it attends to those in a window around it.

What the window costs: a local layer makes the scores of all pairs of tokens, as a global one does, and leaves out those
outside. Both hold float [batch, heads, L, L] and take the same operations, so a window saves nothing here.

Queries, keys and values lie in one kernel, and so do inner units and their gates, as in the checkpoint: one product for
each. Where a mesh splits heads and units over devices (axis `model`), these exchange parts of the results.

References:
    Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, and Long
    Context Finetuning and Inference" (ModernBERT), arXiv 2412.13663.
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models import encoder_checks, ranges, remat
from codir_jax.models.attention import attend
from codir_jax.models.dropout import dropout, dropout_seed
from codir_jax.models.layers import activate, dense, layer_norm
from codir_jax.models.outputs import EncoderOutput
from codir_jax.models.rotary import turned, turns
from codir_jax.models.word_table import ReadsWords, word_table
from codir_jax.processes.user_error import UserError

# What the fields of a `RotaryConfig` may be.
RANGES = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_heads", "intermediate_size", "max_positions"), ranges.SIZE),
    **dict.fromkeys(("local_attention", "global_every"), ranges.SIZE),
    "num_layers": ranges.LAYERS,
    **dict.fromkeys(("global_theta", "local_theta"), ranges.Range(1, 1e12, is_whole=False)),
    "pad_token_id": ranges.ID,
    "layer_norm_eps": ranges.EPSILON,
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "classifier_dropout"), ranges.RATE),
    "initializer_range": ranges.SPREAD,
}
# How a classifier makes one vector of a text's states.
CLASSIFIER_POOLINGS = ("cls", "mean")


@dataclasses.dataclass(frozen=True)
class RotaryConfig:
    """Sizes and constants of one encoder and of the heads on it."""

    family: str  # of `contract.family`: who reads and writes its checkpoints
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int  # inner units; each has a gate beside it
    max_positions: int  # the longest input, in tokens
    pad_token_id: int
    global_every: int = 3  # layers 1, 1 + n, 1 + 2n, ... are global
    local_attention: int = 128  # tokens of a window; half of them, rounded down, are on each side
    global_theta: float = 160_000.0  # of `rotary.turns`
    local_theta: float = 10_000.0
    layer_norm_eps: float = 1e-5
    hidden_dropout: float = 0.0  # of the embeddings and of the inner units
    attention_dropout: float = 0.0  # of the probabilities and of an attention's output
    classifier_dropout: float = 0.0
    initializer_range: float = 0.02  # standard deviation of fresh weights
    hidden_act: str = "gelu"
    classifier_act: str = "gelu"  # of the heads
    classifier_pooling: str = "cls"  # of CLASSIFIER_POOLINGS
    pooling: str = "mean"  # of `pooling.POOLINGS`: how a sentence encoder makes one vector of a text

    # What the heads ask of any encoder, and is the same of all of these.
    norm_bias: ClassVar[bool] = False
    head_bias: ClassVar[bool] = False
    classifier_norm: ClassVar[bool] = True
    dropout_before_pooler: ClassVar[bool] = False
    has_pooler: ClassVar[bool] = False
    position_offset: ClassVar[int] = 0

    def __post_init__(self) -> None:
        encoder_checks.check(self, RANGES)
        if self.classifier_pooling not in CLASSIFIER_POOLINGS:
            raise UserError(
                f"classifier_pooling {self.classifier_pooling!r} is not supported; known: "
                f"{', '.join(CLASSIFIER_POOLINGS)}"
            )
        if self.head_size % 2:
            raise UserError(
                f"heads of {self.head_size} features cannot be turned in pairs: hidden_size {self.hidden_size} / "
                f"num_heads {self.num_heads} must be even"
            )

    @property
    def max_length(self) -> int:
        """The longest input, in tokens."""
        return self.max_positions

    @property
    def masked_lm_act(self) -> str:
        """Of a masked LM's transform."""
        return self.classifier_act

    @property
    def word_width(self) -> int:
        """Of a row of the word table."""
        return self.hidden_size

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    def is_global(self, layer: int) -> bool:
        """Whether a layer, counted from 0, is global."""
        return layer % self.global_every == 0

    @property
    def thetas(self) -> dict[bool, float]:
        """Of `rotary.turns`: is a layer global -> its theta."""
        return {True: self.global_theta, False: self.local_theta}

    @property
    def in_words(self) -> str:
        """Its sizes, for a model card."""
        return (
            f"{self.num_layers} layers, {self.hidden_size} hidden features and {self.num_heads} heads, a window of "
            f"{self.local_attention} tokens in all but every {self.global_every}. layer"
        )


def flops(config: RotaryConfig, seq_len: int) -> float:
    """Operations of the forward pass of one text of `seq_len` tokens, padding included: it is computed too.

    Counted as in `transformer.flops`. With H hidden_size, F intermediate_size and L tokens, each layer takes

        8 L H^2  (queries, keys, values, output)  +  4 L^2 H  (scores, weighted sum)  +  6 L H F  (feed-forward, gated)

    A local layer makes all scores, so it takes as many.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    projections = 8 * seq_len * hidden**2
    attention = 4 * seq_len**2 * hidden
    feed_forward = 6 * seq_len * hidden * inner
    return float(config.num_layers * (projections + attention + feed_forward))


class Embeddings(nn.Module):
    """Word embeddings, normalised."""

    config: RotaryConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        c = self.config
        self.word = word_table(c, self.dtype)
        self.norm = layer_norm(c, "norm", None)

    def __call__(self, input_ids: jax.Array, seed: jax.Array | None, words: jax.Array | None) -> jax.Array:
        if input_ids.shape[1] > self.config.max_length:
            raise UserError(
                f"input of {input_ids.shape[1]} tokens; this {self.config.family} model has positions for "
                f"{self.config.max_length}; set data.max_length to {self.config.max_length} or less"
            )
        words = self.word(input_ids) if words is None else words
        return dropout(self.norm(words).astype(self.dtype), self.config.hidden_dropout, seed, site=0)


class SelfAttention(nn.Module):
    """Each token attends to all real tokens or, in a local layer, to those in its window."""

    config: RotaryConfig
    index: int
    site: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, attention_mask: jax.Array, by: tuple[jax.Array, jax.Array], seed: jax.Array | None
    ) -> jax.Array:
        c = self.config
        shape = (3, c.num_heads, c.head_size)
        whole = dense(c, 3 * c.hidden_size, ("embed", "heads"), "qkv", self.dtype, out_shape=shape, use_bias=False)(x)
        query, key, value = (jnp.moveaxis(whole[:, :, i], 2, 1) for i in range(3))
        is_seen = attention_mask[:, None, None, :] > 0
        if not c.is_global(self.index):
            is_seen = is_seen & in_window(x.shape[1], c.local_attention)
        dropped = {"rate": c.attention_dropout, "seed": seed, "site": self.site}
        mixed = attend(self, turned(query, by), turned(key, by), value, is_seen, **dropped)
        return dense(c, c.hidden_size, ("heads", "embed"), "output", self.dtype, in_axes=2, use_bias=False)(mixed)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); the first layer of all has no norm before its attention.

    The feed-forward block is (gelu(u) * g) W with [u, g] one product.
    """

    config: RotaryConfig
    index: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, attention_mask: jax.Array, by: tuple[jax.Array, jax.Array], seed: jax.Array | None
    ) -> jax.Array:
        c = self.config
        site = 1 + 3 * self.index  # 0 is the embeddings'
        y = layer_norm(c, "norm", "attention_norm")(x).astype(self.dtype) if self.index else x
        y = SelfAttention(c, self.index, site, self.dtype, name="attention")(y, attention_mask, by, seed)
        x = x + dropout(y, c.attention_dropout, seed, site + 1)
        y = layer_norm(c, "norm", "mlp_norm")(x).astype(self.dtype)
        inner = c.intermediate_size
        y = dense(c, 2 * inner, ("embed", "mlp"), "mlp_in", self.dtype, out_shape=(2, inner), use_bias=False)(y)
        y = activate(c.hidden_act, y[:, :, 0]) * y[:, :, 1]
        y = dropout(y, c.hidden_dropout, seed, site + 2)
        return x + dense(c, c.hidden_size, ("mlp", "embed"), "mlp_out", self.dtype, use_bias=False)(y)


class Encoder(ReadsWords):
    """Token ids to the hidden states of every layer, those of the last one normalised.

    Attributes:
        config: sizes.
        dtype: of the computation (float32 or bfloat16); weights are float32, as are look-ups, LayerNorm, rotations,
            GELU, scores of the attention and softmax.
        remat: of `remat.REMAT`, what is kept for the backward pass.
    """

    config: RotaryConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config, self.dtype)
        self.layers = [Layer(self.config, i, self.dtype, name=f"layer_{i}") for i in range(self.config.num_layers)]
        self.final_norm = layer_norm(self.config, "norm", None)

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
            token_type_ids: int32 [batch, seq]; ignored.
            words: float [batch, seq, hidden], of `words(input_ids)` where they were looked up before.
            deterministic: False applies dropout, rng stream "dropout".
        """
        del token_type_ids
        c = self.config
        seed = dropout_seed(self, deterministic, c.hidden_dropout, c.attention_dropout)
        by = {is_global: turns(input_ids.shape[1], c.head_size, theta) for is_global, theta in c.thetas.items()}
        x = self.embeddings(input_ids, seed, words)
        hidden_states = [x]
        for i, layer in enumerate(self.layers):
            x = remat.run(layer, self.remat, x, attention_mask, by[c.is_global(i)], seed)
            hidden_states.append(x)
        hidden_states[-1] = self.final_norm(x).astype(self.dtype)
        return EncoderOutput(hidden_states=tuple(hidden_states))


def in_window(length: int, window: int) -> jax.Array:
    """Whether a token (row) sees another one (column) at most half a window away: bool [length, length]."""
    places = jnp.arange(length, dtype=jnp.int32)
    return jnp.abs(places[:, None] - places[None, :]) <= window // 2
