"""DeBERTa-v3, which checkpoints call deberta-v2: BERT's encoder without positions, whose scores know distances.

Settings of a config.json that v3 models have are supported, those of v2 (a convolution, embeddings of another width)
are not. The masked LM is read under both names that transformers' class has for it, as `legacy` says, and written under
the first, which the class makes by itself; what v3 was pre-trained with, a detector of replaced tokens, is left out.

References:
    He et al., "DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training with Gradient-Disentangled Embedding
    Sharing", ICLR 2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codir_jax.models import bert
from codir_jax.models.encoder_family import check_fixed, encoder_family
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes.user_error import UserError

BASE = dataclasses.replace(
    bert.BASE,
    family="deberta-v2",
    vocab_size=128100,
    type_vocab_size=None,
    layer_norm_eps=1e-7,
    has_positions=False,
    relative_span=256,
    classifier_act="gelu",
    has_pooler=False,
)

SIZES = {
    "deberta-v3-xsmall": dataclasses.replace(BASE, hidden_size=384, num_heads=6, intermediate_size=1536),
    "deberta-v3-small": dataclasses.replace(BASE, num_layers=6),
    "deberta-v3-base": BASE,
    "deberta-v3-large": dataclasses.replace(
        BASE, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096
    ),
}

# transformers' DebertaV2Config assumes the sizes of deberta-v2-xlarge.
HF_FIELDS = {
    **{ours: of for ours, of in bert.HF_FIELDS.items() if ours not in ("type_vocab_size", "classifier_dropout")},
    "vocab_size": ("vocab_size", 128100),
    "hidden_size": ("hidden_size", 1536),
    "num_layers": ("num_hidden_layers", 24),
    "num_heads": ("num_attention_heads", 24),
    "intermediate_size": ("intermediate_size", 6144),
    "layer_norm_eps": ("layer_norm_eps", 1e-7),
    "relative_span": ("position_buckets", -1),
    "classifier_act": ("pooler_hidden_act", "gelu"),
    "classifier_dropout": ("cls_dropout", None),
}
# key -> (what v3 has, what transformers assumes when the key is absent).
FIXED = {
    "relative_attention": (True, False),
    "position_biased_input": (False, True),
    "share_att_key": (True, False),
    "norm_rel_ebd": ("layer_norm", "none"),
    "type_vocab_size": (0, 0),
    "conv_kernel_size": (0, 0),
    "pooler_dropout": (0, 0),
}
ATTENDS = ["p2c", "c2p"]  # pos_att_type

NAMES = bert.NAMES._replace(
    prefix="deberta.",
    embeddings={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
        "distances": "encoder.rel_embeddings",
        "distances/norm": "encoder.LayerNorm",
    },
    layer={
        **bert.NAMES.layer,
        "attention/query": "attention.self.query_proj",
        "attention/key": "attention.self.key_proj",
        "attention/value": "attention.self.value_proj",
    },
    heads={**bert.NAMES.heads, "classification": {"pooler": "pooler.dense"}, "embedding": {}},
)

# Where a masked LM lies if config.json says `"legacy": false`.
MOVED = {
    "lm_predictions.lm_head.dense.": "cls.predictions.transform.dense.",
    "lm_predictions.lm_head.LayerNorm.": "cls.predictions.transform.LayerNorm.",
    "lm_predictions.lm_head.bias": "cls.predictions.bias",
}

_MADE = encoder_family(title="DeBERTa", class_prefix="DebertaV2", base=BASE, sizes=SIZES, fields=HF_FIELDS, names=NAMES)


def read_config(hf_config: Mapping[str, Any]) -> TransformerConfig:
    """The config of a config.json.

    Raises:
        UserError: a setting that DeBERTa-v3 has not, or a number out of its range.
    """
    check_fixed(hf_config, FIXED, "DeBERTa-v3 models")
    kinds = hf_config.get("pos_att_type") or []
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or sorted(map(str, kinds)) != sorted(ATTENDS):
        raise UserError(f"pos_att_type {hf_config.get('pos_att_type')!r} is not supported: v3 models have {ATTENDS}")
    sizes = {
        "embedding_size": hf_config.get("hidden_size", 1536),
        "pooler_hidden_size": hf_config.get("hidden_size", 1536),
        "max_relative_positions": hf_config.get("max_position_embeddings", 512),
    }
    for key, expected in sizes.items():
        if hf_config.get(key, expected) not in (expected, -1):
            raise UserError(f"{key} {hf_config[key]!r} is not supported: DeBERTa-v3 models have {expected} here")
    return _MADE.read_config(hf_config)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `read_config`, with the model_type."""
    fixed = {key: value for key, (value, _) in FIXED.items() if key != "conv_kernel_size"}
    widths = {"pooler_hidden_size": config.hidden_size, "max_relative_positions": -1}
    return {**_MADE.write_config(config), **fixed, **widths, "pos_att_type": ATTENDS, "legacy": True}


def moved(hf_config: Mapping[str, Any]) -> Mapping[str, str]:
    """Of `contract.Family`."""
    return MOVED if hf_config.get("legacy") is False else {}


FAMILY = _MADE._replace(read_config=read_config, write_config=write_config, moved=moved)
