"""MPNet: BERT's encoder with a bias for the distance of two tokens, which all layers share, and RoBERTa's positions.

References:
    Song et al., "MPNet: Masked and Permuted Pre-training for Language Understanding", NeurIPS 2020.
"""

from __future__ import annotations

import dataclasses

from codir_jax.models import bert, roberta
from codir_jax.models.encoder_family import Names, encoder_family

BASE = dataclasses.replace(roberta.BASE, family="mpnet", vocab_size=30527, type_vocab_size=None, relative_buckets=32)

SIZES = {"mpnet-base": BASE}

# transformers' MPNetConfig has BERT's defaults except for these; it has no dropout of the classifier's own.
HF_FIELDS = {
    **{ours: of for ours, of in bert.HF_FIELDS.items() if ours not in ("type_vocab_size", "classifier_dropout")},
    "vocab_size": ("vocab_size", 30527),
    "pad_token_id": ("pad_token_id", 1),
    "relative_buckets": ("relative_attention_num_buckets", 32),
}

NAMES = Names(
    prefix="mpnet.",
    embeddings={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/position": "embeddings.position_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
        "relative_bias": "encoder.relative_attention_bias",
    },
    layers="encoder.layer.",
    layer={
        "attention/query": "attention.attn.q",
        "attention/key": "attention.attn.k",
        "attention/value": "attention.attn.v",
        "attention/output": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
        "mlp_in": "intermediate.dense",
        "mlp_out": "output.dense",
        "mlp_norm": "output.LayerNorm",
    },
    heads={**roberta.NAMES.heads, "embedding": {"pooler": "mpnet.pooler.dense"}},
    copies=roberta.NAMES.copies,
    bias_copies=roberta.NAMES.bias_copies,
)

FAMILY = encoder_family(
    title="MPNet",
    class_prefix="MPNet",
    base=BASE,
    sizes=SIZES,
    fields=HF_FIELDS,
    names=NAMES,
    fixed={"pad_token_id": 1},  # its code numbers positions from there, whatever the config says
)
