"""Sizes of models that have a name, so that they can be measured and planned without their weights."""

from codir_jax.models.transformer import TransformerConfig

# layers, hidden size, heads, inner size, vocabulary. "tiny" and "minilm" are BERTs.
_SIZES = {
    "tiny": (2, 32, 2, 64, 2048),
    "minilm": (6, 384, 12, 1536, 30522),
    "bert-base": (12, 768, 12, 3072, 30522),
    "bert-large": (24, 1024, 16, 4096, 30522),
    "roberta-base": (12, 768, 12, 3072, 50265),
    "roberta-large": (24, 1024, 16, 4096, 50265),
}
NAMES = tuple(_SIZES)


def named(name: str) -> TransformerConfig:
    """The sizes of a name in `NAMES`."""
    num_layers, hidden_size, num_heads, intermediate_size, vocab_size = _SIZES[name]
    is_roberta = name.startswith("roberta")
    return TransformerConfig(
        family="roberta" if is_roberta else "bert",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=intermediate_size,
        max_positions=514 if is_roberta else 512,
        type_vocab_size=1 if is_roberta else 2,
        layer_norm_eps=1e-5 if is_roberta else 1e-12,
        pad_token_id=1 if is_roberta else 0,
        position_offset=2 if is_roberta else 0,
    )
