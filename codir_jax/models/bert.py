"""BERT: presets, its Hugging Face configuration, and the table of its weights' names there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes.user_error import UserError

Path = tuple[str, ...]

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

# base and large: bert-{base,large}-uncased. six_layer: base's width, half its depth (PKD's and CoDIR's student).
# tiny: google/bert_uncased_L-2_H-128_A-2.
PRESETS = {
    "base": BASE,
    "large": dataclasses.replace(BASE, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
    "six_layer": dataclasses.replace(BASE, num_layers=6),
    "tiny": dataclasses.replace(BASE, hidden_size=128, num_layers=2, num_heads=2, intermediate_size=512),
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
ARCHITECTURES = {"classification": "BertForSequenceClassification", "masked_lm": "BertForMaskedLM"}

# Names of a head's weights in the checkpoint, for heads.py's tree.
HEAD_KEYS = {
    "classification": {"pooler": "bert.pooler.dense", "classifier": "classifier"},
    "masked_lm": {
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "decoder_bias": "cls.predictions.bias",
    },
}
# Where a masked LM keeps a decoder that it does not, or need not, tie.
DECODER_KEYS = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


class HfKey(NamedTuple):
    """A weight in a Hugging Face checkpoint."""

    name: str
    transpose: bool  # torch keeps a linear layer as [out, in], we as [in, out]


def config_from_hf(hf_config: Mapping[str, Any]) -> TransformerConfig:
    """The configuration in a `config.json` of model_type "bert".

    Raises:
        UserError: for a variant that this encoder is not: relative positions, a decoder, an unknown activation.
    """
    return read_hf_fields(hf_config, family="bert", fields=HF_FIELDS)


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The architecture's part of a `config.json`."""
    return write_hf_fields(config, fields=HF_FIELDS)


def hf_keys(config: TransformerConfig, head: str) -> dict[Path, HfKey]:
    """For every weight of `build_model(config, head)`, by its path in our tree, its place in the checkpoint."""
    return {**encoder_keys(config, PREFIX), **head_keys(HEAD_KEYS, head)}


def read_hf_fields(hf_config: Mapping[str, Any], family: str, fields: Mapping) -> TransformerConfig:
    """`TransformerConfig` from a config.json, refusing what would be read wrongly; shared with roberta.py."""
    if hf_config.get("is_decoder") or hf_config.get("add_cross_attention"):
        raise UserError("config.json describes a decoder (is_decoder or add_cross_attention); expected an encoder")
    positions = hf_config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UserError(f"position_embedding_type {positions!r} is not supported; expected 'absolute'")
    values = {ours: hf_config.get(theirs, default) for ours, (theirs, default) in fields.items()}
    for name, (theirs, default) in fields.items():
        value = values[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, int) and not (is_number and int(value) == value):
            raise UserError(f"config.json: {theirs} must be a whole number, got {value!r}")
        if isinstance(default, float) and not is_number:
            raise UserError(f"config.json: {theirs} must be a number, got {value!r}")
    offset = values["pad_token_id"] + 1 if family == "roberta" else 0
    return TransformerConfig(family=family, position_offset=offset, **values)


def write_hf_fields(config: TransformerConfig, fields: Mapping) -> dict[str, Any]:
    """The inverse of `read_hf_fields`, with the model_type."""
    return {"model_type": config.family, **{theirs: getattr(config, ours) for ours, (theirs, _) in fields.items()}}


def encoder_keys(config: TransformerConfig, prefix: str) -> dict[Path, HfKey]:
    """The encoder's part of the table; RoBERTa's differs in the prefix only."""
    keys: dict[Path, HfKey] = {}
    embeddings = {"word": "word_embeddings", "position": "position_embeddings", "token_type": "token_type_embeddings"}
    for ours, theirs in embeddings.items():
        keys["encoder", "embeddings", ours, "embedding"] = HfKey(f"{prefix}embeddings.{theirs}.weight", False)
    keys |= _norm(("encoder", "embeddings", "norm"), f"{prefix}embeddings.LayerNorm")
    for i in range(config.num_layers):
        ours, theirs = ("encoder", f"layer_{i}"), f"{prefix}encoder.layer.{i}."
        for name in ("query", "key", "value"):
            keys |= _linear((*ours, "attention", name), f"{theirs}attention.self.{name}")
        keys |= _linear((*ours, "attention", "output"), f"{theirs}attention.output.dense")
        keys |= _norm((*ours, "attention_norm"), f"{theirs}attention.output.LayerNorm")
        keys |= _linear((*ours, "mlp_in"), f"{theirs}intermediate.dense")
        keys |= _linear((*ours, "mlp_out"), f"{theirs}output.dense")
        keys |= _norm((*ours, "mlp_norm"), f"{theirs}output.LayerNorm")
    return keys


def head_keys(table: Mapping[str, Mapping[str, str]], head: str) -> dict[Path, HfKey]:
    """The head's part, from a family's HEAD_KEYS."""
    if head not in table:
        raise UserError(f"unknown head {head!r}; known: {', '.join(table)}")
    keys: dict[Path, HfKey] = {}
    for ours, theirs in table[head].items():
        if ours == "decoder_bias":
            keys[(ours,)] = HfKey(theirs, False)
        elif ours.endswith("_norm"):
            keys |= _norm((ours,), theirs)
        else:
            keys |= _linear((ours,), theirs)
    return keys


def _linear(path: Path, name: str) -> dict[Path, HfKey]:
    return {(*path, "kernel"): HfKey(f"{name}.weight", True), (*path, "bias"): HfKey(f"{name}.bias", False)}


def _norm(path: Path, name: str) -> dict[Path, HfKey]:
    return {(*path, "scale"): HfKey(f"{name}.weight", False), (*path, "bias"): HfKey(f"{name}.bias", False)}
