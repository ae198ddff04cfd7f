"""XLM-RoBERTa: RoBERTa of a hundred languages, with a vocabulary of 250,002 pieces of a sentencepiece tokenizer.

References:
    Conneau et al., "Unsupervised Cross-lingual Representation Learning at Scale", ACL 2020.
"""

from __future__ import annotations

import dataclasses

from codir_jax.models import bert, roberta
from codir_jax.models.encoder_family import encoder_family

BASE = dataclasses.replace(roberta.BASE, family="xlm-roberta", vocab_size=250002)

SIZES = {
    "xlm-roberta-base": BASE,
    "xlm-roberta-large": dataclasses.replace(
        BASE, hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096
    ),
}

# transformers' XLMRobertaConfig has BERT's defaults except for this one.
HF_FIELDS = {**bert.HF_FIELDS, "pad_token_id": ("pad_token_id", 1)}

FAMILY = encoder_family(
    title="XLM-RoBERTa",
    class_prefix="XLMRoberta",
    base=BASE,
    sizes=SIZES,
    fields=HF_FIELDS,
    names=roberta.NAMES,  # "roberta." there, too
)
