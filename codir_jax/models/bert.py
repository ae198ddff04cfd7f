"""BERT: named sizes, its Hugging Face configuration, and the names of its weights there."""

from __future__ import annotations

import dataclasses

from codir_jax.models.encoder_family import Names, encoder_family
from codir_jax.models.transformer import TransformerConfig

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

NAMES = Names(
    prefix="bert.",
    embeddings={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/position": "embeddings.position_embeddings",
        "embeddings/token_type": "embeddings.token_type_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
    },
    layers="encoder.layer.",
    layer={
        "attention/query": "attention.self.query",
        "attention/key": "attention.self.key",
        "attention/value": "attention.self.value",
        "attention/output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "mlp_in": "intermediate.dense",
        "mlp_out": "output.dense",
        "mlp_norm": "output.LayerNorm",
    },
    heads={
        "classification": {"pooler": "bert.pooler.dense"},
        "masked_lm": {
            "transform": "cls.predictions.transform.dense",
            "transform_norm": "cls.predictions.transform.LayerNorm",
            "decoder_bias": "cls.predictions.bias",
        },
        "embedding": {"pooler": "bert.pooler.dense"},
    },
    copies=("cls.predictions.decoder.weight",),
    bias_copies=("cls.predictions.decoder.bias",),
)

FAMILY = encoder_family(title="BERT", class_prefix="Bert", base=BASE, sizes=SIZES, fields=HF_FIELDS, names=NAMES)
