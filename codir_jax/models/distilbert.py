"""DistilBERT: BERT without token types and pooler, with its own names and a classifier through relu.

Texts of a pair are told apart by the separator between them alone: token types of a tokenizer are not looked at.

References:
    Sanh et al., "DistilBERT, a distilled version of BERT", arXiv 1910.01108.
"""

from __future__ import annotations

import dataclasses

from codir_jax.models import bert
from codir_jax.models.encoder_family import Names, encoder_family

BASE = dataclasses.replace(
    bert.BASE,
    family="distilbert",
    num_layers=6,
    type_vocab_size=None,
    classifier_dropout=0.2,
    classifier_act="relu",
    has_pooler=False,
)

SIZES = {"distilbert-base": BASE}

HF_FIELDS = {
    "vocab_size": ("vocab_size", 30522),
    "hidden_size": ("dim", 768),
    "num_layers": ("n_layers", 6),
    "num_heads": ("n_heads", 12),
    "intermediate_size": ("hidden_dim", 3072),
    "max_positions": ("max_position_embeddings", 512),
    "pad_token_id": ("pad_token_id", 0),
    "hidden_dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "classifier_dropout": ("seq_classif_dropout", 0.2),
    "initializer_range": ("initializer_range", 0.02),
    "hidden_act": ("activation", "gelu"),
}

NAMES = Names(
    prefix="distilbert.",
    embeddings={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/position": "embeddings.position_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
    },
    layers="transformer.layer.",
    layer={
        "attention/query": "attention.q_lin",
        "attention/key": "attention.k_lin",
        "attention/value": "attention.v_lin",
        "attention/output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "mlp_in": "ffn.lin1",
        "mlp_out": "ffn.lin2",
        "mlp_norm": "output_layer_norm",
    },
    heads={
        "classification": {"pooler": "pre_classifier"},
        "masked_lm": {
            "transform": "vocab_transform",
            "transform_norm": "vocab_layer_norm",
            "decoder_bias": "vocab_projector.bias",
        },
    },
    copies=("vocab_projector.weight",),
)

FAMILY = encoder_family(
    title="DistilBERT", class_prefix="DistilBert", base=BASE, sizes=SIZES, fields=HF_FIELDS, names=NAMES
)
