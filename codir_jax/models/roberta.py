"""RoBERTa: named sizes, its Hugging Face configuration, and the names of its weights there.

Against BERT: positions count tokens only and start at pad_token_id + 1 (514 rows, 512 usable), one token type, epsilon
1e-5, and its own heads.
"""

from __future__ import annotations

import dataclasses

from codir_jax.models import bert
from codir_jax.models.encoder_family import encoder_family
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

NAMES = bert.NAMES._replace(
    prefix="roberta.",
    heads={
        # A pooler by another name.
        "classification": {"pooler": "classifier.dense", "classifier": "classifier.out_proj"},
        "masked_lm": {
            "transform": "lm_head.dense",
            "transform_norm": "lm_head.layer_norm",
            "decoder_bias": "lm_head.bias",
        },
        "embedding": {"pooler": "roberta.pooler.dense"},
    },
    copies=("lm_head.decoder.weight",),
    bias_copies=("lm_head.decoder.bias",),
)

FAMILY = encoder_family(title="RoBERTa", class_prefix="Roberta", base=BASE, sizes=SIZES, fields=HF_FIELDS, names=NAMES)
