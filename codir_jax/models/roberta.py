"""RoBERTa: named sizes, its Hugging Face configuration, and the table of its weights' names there.

Against BERT: positions count tokens only and start at pad_token_id + 1 (514 rows, 512 usable), one token type, epsilon
1e-5, and its own heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codir_jax.models import bert, hf_keys, layer_selection, transformer, unit_selection
from codir_jax.models.contract import Family
from codir_jax.models.heads import head_spec
from codir_jax.models.hf_keys import HfKey, Path
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
    positions_skip_padding=True,
    dropout_before_pooler=True,
    masked_lm_act="gelu",  # whatever hidden_act says (transformers)
)

SIZES = {
    "roberta-base": BASE,
    "roberta-large": dataclasses.replace(BASE, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
}

# transformers' RobertaConfig has BERT's defaults except for these.
HF_FIELDS = {
    **bert.HF_FIELDS,
    "vocab_size": ("vocab_size", 50265),
    "pad_token_id": ("pad_token_id", 1),
}

PREFIX = "roberta."
HEAD_NAMES = {
    # A pooler by another name.
    "classification": {"pooler": "classifier.dense", "classifier": "classifier.out_proj"},
    "masked_lm": {
        "transform": "lm_head.dense",
        "transform_norm": "lm_head.layer_norm",
        "decoder_bias": "lm_head.bias",
    },
    "embedding": {"pooler": "roberta.pooler.dense"},
}
TIED = {"masked_lm": {"lm_head.decoder.weight": bert.WORD_EMBEDDING, "lm_head.decoder.bias": ("decoder_bias",)}}


def from_scratch(vocab_size: int, pad_token_id: int, **sizes: Any) -> TransformerConfig:
    """`BASE` for another vocabulary, with the fields in `sizes` replaced."""
    return _placed(vocab_size=vocab_size, pad_token_id=pad_token_id, **sizes)


def read_config(hf_config: Mapping[str, Any]) -> TransformerConfig:
    """The configuration in a `config.json` of model_type "roberta"; raises as `bert.read_config`."""
    return _placed(**bert.read_fields(hf_config, HF_FIELDS))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """The architecture's part of a `config.json`."""
    return bert.write_fields(config, HF_FIELDS)


def keys(config: TransformerConfig, head: str) -> dict[Path, HfKey]:
    """For every weight of `build_model(config, head)`, by its path in our tree, its place in the checkpoint."""
    head_keys = hf_keys.head_keys(head_spec(head).weights(config), HEAD_NAMES.get(head, {}))
    return {**bert.encoder_keys(config, PREFIX), **head_keys}


def _placed(*, pad_token_id: int, **fields: Any) -> TransformerConfig:
    return dataclasses.replace(BASE, pad_token_id=pad_token_id, position_offset=pad_token_id + 1, **fields)


FAMILY = Family(
    name="roberta",
    title="RoBERTa",
    sizes=SIZES,
    from_scratch=from_scratch,
    read_config=read_config,
    write_config=write_config,
    keys=keys,
    prefix=PREFIX,
    tied=TIED,
    class_prefix="Roberta",
    encoder=transformer.Encoder,
    shrink={"layers": layer_selection.shrink, "units": unit_selection.shrink},
    flops=transformer.flops,
)
