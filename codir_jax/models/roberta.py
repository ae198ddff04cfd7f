"""RoBERTa: presets, its Hugging Face configuration, and the table of its weights' names there.

Against BERT: positions start at pad_token_id + 1 (514 rows, 512 usable), one token type, epsilon
1e-5, and its own heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codir_jax.models import bert
from codir_jax.models.bert import HfKey, Path
from codir_jax.models.transformer import TransformerConfig

BASE = TransformerConfig(
    family="roberta",
    vocab_size=50265,
    hidden_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
    max_positions=514,
    type_vocab_size=1,
    layer_norm_eps=1e-5,
    pad_token_id=1,
    position_offset=2,
)

# base and large: roberta-{base,large}. six_layer: the shape of distilroberta-base and of CoDIR's student.
PRESETS = {
    "base": BASE,
    "large": dataclasses.replace(BASE, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
    "six_layer": dataclasses.replace(BASE, num_layers=6),
    "tiny": dataclasses.replace(BASE, hidden_size=128, num_layers=2, num_heads=2, intermediate_size=512),
}

# transformers' RobertaConfig has BERT's defaults but for these.
HF_FIELDS = {
    **bert.HF_FIELDS,
    "vocab_size": ("vocab_size", 50265),
    "pad_token_id": ("pad_token_id", 1),
}

PREFIX = "roberta."
ARCHITECTURES = {"classification": "RobertaForSequenceClassification", "masked_lm": "RobertaForMaskedLM"}
HEAD_KEYS = {
    "classification": {"pooler": "classifier.dense", "classifier": "classifier.out_proj"},
    "masked_lm": {
        "transform": "lm_head.dense",
        "transform_norm": "lm_head.layer_norm",
        "decoder_bias": "lm_head.bias",
    },
}
DECODER_KEYS = ("lm_head.decoder.weight", "lm_head.decoder.bias")


def config_from_hf(hf_config: Mapping[str, Any]) -> TransformerConfig:
    """The configuration in a `config.json` of model_type "roberta"; raises as `bert.config_from_hf`."""
    return bert.read_hf_fields(hf_config, family="roberta", fields=HF_FIELDS)


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The architecture's part of a `config.json`."""
    return bert.write_hf_fields(config, fields=HF_FIELDS)


def hf_keys(config: TransformerConfig, head: str) -> dict[Path, HfKey]:
    """For every weight of `build_model(config, head)`, by its path in our tree, its place in the checkpoint."""
    return {**bert.encoder_keys(config, PREFIX), **bert.head_keys(HEAD_KEYS, head)}
