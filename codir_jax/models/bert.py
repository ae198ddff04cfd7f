"""BERT: named sizes, its Hugging Face configuration, and the table of its weights' names there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codir_jax.models import hf_keys, layer_selection, transformer, unit_selection
from codir_jax.models.contract import Family
from codir_jax.models.heads import head_spec
from codir_jax.models.hf_keys import HfKey, Path
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes.user_error import UserError

BASE = TransformerConfig(
    family="bert",
    vocab_size=30522,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    max_positions=512,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=0,
    position_offset=0,
)

# bert-{base,large}: the uncased ones. minilm: nreimers/MiniLM-L6-H384-uncased. tiny is nobody's: it compiles fast.
SIZES = {
    "tiny": dataclasses.replace(BASE, vocab_size=2048, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64),
    "minilm": dataclasses.replace(BASE, hidden_size=384, num_layers=6, intermediate_size=1536),
    "bert-base": BASE,
    "bert-large": dataclasses.replace(BASE, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
}

# Our field -> (key in config.json, value that transformers assumes when the key is absent).
HF_FIELDS = {
    "vocab_size": ("vocab_size", 30522),
    "hidden_size": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "intermediate_size": ("intermediate_size", 3072),
    "max_positions": ("max_position_embeddings", 512),
    "type_vocab_size": ("type_vocab_size", 2),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "pad_token_id": ("pad_token_id", 0),
    "hidden_dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "classifier_dropout": ("classifier_dropout", None),
    "initializer_range": ("initializer_range", 0.02),
    "hidden_act": ("hidden_act", "gelu"),
}

PREFIX = "bert."
# Names of a head's weights in the checkpoint.
HEAD_NAMES = {
    "classification": {"pooler": "bert.pooler.dense"},
    "masked_lm": {
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "decoder_bias": "cls.predictions.bias",
    },
    "embedding": {"pooler": "bert.pooler.dense"},
}
WORD_EMBEDDING = ("encoder", "embeddings", "word", "embedding")
TIED = {
    "masked_lm": {
        "cls.predictions.decoder.weight": WORD_EMBEDDING,
        "cls.predictions.decoder.bias": ("decoder_bias",),
    }
}


def from_scratch(vocab_size: int, pad_token_id: int, **sizes: Any) -> TransformerConfig:
    """`BASE` for another vocabulary, with the fields in `sizes` replaced."""
    return dataclasses.replace(BASE, vocab_size=vocab_size, pad_token_id=pad_token_id, **sizes)


def read_config(hf_config: Mapping[str, Any]) -> TransformerConfig:
    """The configuration in a `config.json` of model_type "bert".

    Raises:
        UserError: for a variant that this encoder is not: relative positions, a decoder, an unknown activation.
    """
    return dataclasses.replace(BASE, **read_fields(hf_config, HF_FIELDS))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """The architecture's part of a `config.json`."""
    return write_fields(config, HF_FIELDS)


def keys(config: TransformerConfig, head: str) -> dict[Path, HfKey]:
    """For every weight of `build_model(config, head)`, by its path in our tree, its place in the checkpoint."""
    head_keys = hf_keys.head_keys(head_spec(head).weights(config), HEAD_NAMES.get(head, {}))
    return {**encoder_keys(config, PREFIX), **head_keys}


def read_fields(hf_config: Mapping[str, Any], fields: Mapping) -> dict[str, Any]:
    """The fields of a `TransformerConfig` in a config.json, refusing what would be read wrongly; roberta.py's too."""
    if hf_config.get("is_decoder") or hf_config.get("add_cross_attention"):
        raise UserError("config.json describes a decoder (is_decoder or add_cross_attention); expected an encoder")
    positions = hf_config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UserError(f"position_embedding_type {positions!r} is not supported; expected 'absolute'")
    values = {ours: hf_config.get(theirs, default) for ours, (theirs, default) in fields.items()}
    for name, (theirs, default) in fields.items():
        if name in transformer.RANGES and not (values[name] is None and default is None):
            values[name] = transformer.RANGES[name].check(theirs, values[name])
    return values


def write_fields(config: TransformerConfig, fields: Mapping) -> dict[str, Any]:
    """The inverse of `read_fields`, with the model_type."""
    return {"model_type": config.family, **{theirs: getattr(config, ours) for ours, (theirs, _) in fields.items()}}


def encoder_keys(config: TransformerConfig, prefix: str) -> dict[Path, HfKey]:
    """The encoder's part of the table; RoBERTa's differs in the prefix only."""
    found: dict[Path, HfKey] = {}
    embeddings = {"word": "word_embeddings", "position": "position_embeddings", "token_type": "token_type_embeddings"}
    for ours, theirs in embeddings.items():
        found["encoder", "embeddings", ours, "embedding"] = HfKey(f"{prefix}embeddings.{theirs}.weight", False)
    found |= hf_keys.norm(("encoder", "embeddings", "norm"), f"{prefix}embeddings.LayerNorm")
    for i in range(config.num_layers):
        ours, theirs = ("encoder", f"layer_{i}"), f"{prefix}encoder.layer.{i}."
        for name in ("query", "key", "value"):
            found |= hf_keys.linear((*ours, "attention", name), f"{theirs}attention.self.{name}")
        found |= hf_keys.linear((*ours, "attention", "output"), f"{theirs}attention.output.dense")
        found |= hf_keys.norm((*ours, "attention_norm"), f"{theirs}attention.output.LayerNorm")
        found |= hf_keys.linear((*ours, "mlp_in"), f"{theirs}intermediate.dense")
        found |= hf_keys.linear((*ours, "mlp_out"), f"{theirs}output.dense")
        found |= hf_keys.norm((*ours, "mlp_norm"), f"{theirs}output.LayerNorm")
    return found


FAMILY = Family(
    name="bert",
    title="BERT",
    sizes=SIZES,
    from_scratch=from_scratch,
    read_config=read_config,
    write_config=write_config,
    keys=keys,
    prefix=PREFIX,
    tied=TIED,
    class_prefix="Bert",
    encoder=transformer.Encoder,
    shrink={"layers": layer_selection.shrink, "units": unit_selection.shrink},
    flops=transformer.flops,
)
