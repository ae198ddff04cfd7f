"""ELECTRA: BERT whose embeddings may be narrower than its states, without pooler, with a classifier through gelu.

A discriminator is fine-tuned for a task, a generator is a masked LM; what a discriminator learned to tell, which tokens
were replaced, is left out.

References:
    Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", ICLR 2020.
"""

from __future__ import annotations

import dataclasses

from codir_jax.models import bert, roberta
from codir_jax.models.encoder_family import encoder_family

BASE = dataclasses.replace(
    bert.BASE,
    family="electra",
    embedding_width=768,
    dropout_before_pooler=True,
    classifier_act="gelu",
    masked_lm_act="gelu",  # whatever hidden_act says (transformers)
    has_pooler=False,
)

# The discriminators.
SIZES = {
    "electra-small": dataclasses.replace(
        BASE, embedding_width=128, hidden_size=256, num_heads=4, intermediate_size=1024
    ),
    "electra-base": BASE,
    "electra-large": dataclasses.replace(
        BASE, embedding_width=1024, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096
    ),
}

HF_FIELDS = {
    **bert.HF_FIELDS,
    "embedding_width": ("embedding_size", 128),
    "hidden_size": ("hidden_size", 256),
    "num_heads": ("num_attention_heads", 4),
    "intermediate_size": ("intermediate_size", 1024),
}

NAMES = bert.NAMES._replace(
    prefix="electra.",
    embeddings={**bert.NAMES.embeddings, "embeddings/projection": "embeddings_project"},
    heads={
        "classification": roberta.NAMES.heads["classification"],
        "masked_lm": {
            "transform": "generator_predictions.dense",
            "transform_norm": "generator_predictions.LayerNorm",
            "decoder_bias": "generator_lm_head.bias",
        },
    },
    copies=("generator_lm_head.weight",),
    bias_copies=(),
)

FAMILY = encoder_family(title="ELECTRA", class_prefix="Electra", base=BASE, sizes=SIZES, fields=HF_FIELDS, names=NAMES)
