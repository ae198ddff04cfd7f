"""ModernBERT: named sizes, its Hugging Face configuration in both of its forms, and the names of its weights there.

The older form of a config.json says `global_attn_every_n_layers`, `global_rope_theta` and `local_rope_theta`, the newer
one `layer_types` and `rope_parameters`. Both are read, and both are written: every version of transformers that knows
ModernBERT then reads the same model.

References:
    Warner et al., "Smarter, Better, Faster, Longer", arXiv 2412.13663.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codir_jax.models import hf_keys, layer_kinds, rotary_transformer, unit_selection
from codir_jax.models.contract import Family
from codir_jax.models.encoder_family import check_fixed, read_numbers
from codir_jax.models.heads import head_spec
from codir_jax.models.hf_keys import HfKey, Path
from codir_jax.models.rotary_transformer import RANGES, RotaryConfig
from codir_jax.models.word_table import WORD_TABLE
from codir_jax.processes.user_error import UserError

BASE = RotaryConfig(
    family="modernbert",
    vocab_size=50368,
    hidden_size=768,
    num_layers=22,
    num_heads=12,
    intermediate_size=1152,
    max_positions=8192,
    pad_token_id=50283,
    classifier_pooling="mean",
)

SIZES = {
    "modernbert-base": BASE,
    "modernbert-large": dataclasses.replace(
        BASE, hidden_size=1024, num_layers=28, num_heads=16, intermediate_size=2624
    ),
}

# Our field -> (key in config.json, value that transformers assumes when the key is absent).
HF_FIELDS = {
    "vocab_size": ("vocab_size", 50368),
    "hidden_size": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 22),
    "num_heads": ("num_attention_heads", 12),
    "intermediate_size": ("intermediate_size", 1152),
    "max_positions": ("max_position_embeddings", 8192),
    "pad_token_id": ("pad_token_id", 50283),
    "local_attention": ("local_attention", 128),
    "layer_norm_eps": ("norm_eps", 1e-5),
    "hidden_dropout": ("mlp_dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
    "classifier_dropout": ("classifier_dropout", 0.0),
    "initializer_range": ("initializer_range", 0.02),
    "hidden_act": ("hidden_activation", "gelu"),
    "classifier_act": ("classifier_activation", "gelu"),
    "classifier_pooling": ("classifier_pooling", "cls"),
}
# Of which published checkpoints have this value, the one that is computed here.
FIXED = {
    "attention_bias": False,
    "mlp_bias": False,
    "norm_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
# Is a layer global -> its kind in `layer_types`, and (older key, theta where nothing is said).
KINDS = {True: "full_attention", False: "sliding_attention"}
THETAS = {True: ("global_rope_theta", 160_000.0), False: ("local_rope_theta", 10_000.0)}

# Kernels of products and scales of norms, by their path in our tree, of the encoder and of a layer.
ENCODER = {
    ("embeddings", "norm"): (hf_keys.scale, "embeddings.norm"),
    ("embeddings", "word"): (hf_keys.table, "embeddings.tok_embeddings"),
    ("final_norm",): (hf_keys.scale, "final_norm"),
}
LAYER = {
    ("attention_norm",): (hf_keys.scale, "attn_norm"),
    ("attention", "qkv"): (hf_keys.kernel, "attn.Wqkv"),
    ("attention", "output"): (hf_keys.kernel, "attn.Wo"),
    ("mlp_norm",): (hf_keys.scale, "mlp_norm"),
    ("mlp_in",): (hf_keys.kernel, "mlp.Wi"),
    ("mlp_out",): (hf_keys.kernel, "mlp.Wo"),
}
HEADS = {
    "classification": {"pooler": "head.dense", "pooler_norm": "head.norm"},
    "masked_lm": {"transform": "head.dense", "transform_norm": "head.norm", "decoder_bias": "decoder.bias"},
}


def keys(config: RotaryConfig, head: str) -> dict[Path, HfKey]:
    """As `contract.Family.keys`."""
    found: dict[Path, HfKey] = {}
    for path, (kind, name) in ENCODER.items():
        found |= kind(("encoder", *path), f"model.{name}")
    for i in range(config.num_layers):
        for path, (kind, name) in LAYER.items():
            if i or path != ("attention_norm",):
                found |= kind(("encoder", f"layer_{i}", *path), f"model.layers.{i}.{name}")
    return found | hf_keys.head_keys(head_spec(head).weights(config), HEADS.get(head, {}))


def read_config(hf_config: Mapping[str, Any]) -> RotaryConfig:
    """The config of a config.json of either form.

    Raises:
        UserError: biases or an untied decoder, scaled rotations, layers that are global in another way, or a number out
            of its range.
    """
    check_fixed(hf_config, {key: (value, value) for key, value in FIXED.items()}, "published ModernBERT models")
    fields = read_numbers(hf_config, HF_FIELDS, RANGES)
    if hf_config.get("embedding_dropout", 0.0) != hf_config.get("mlp_dropout", 0.0):
        raise UserError(
            f"embedding_dropout {hf_config.get('embedding_dropout', 0.0)!r} and mlp_dropout "
            f"{hf_config.get('mlp_dropout', 0.0)!r} differ; expected one rate for both"
        )
    return RotaryConfig(
        family="modernbert",
        **fields,
        global_every=_global_every(hf_config, fields["num_layers"]),
        global_theta=_theta(hf_config, is_global=True),
        local_theta=_theta(hf_config, is_global=False),
    )


def write_config(config: RotaryConfig) -> dict[str, Any]:
    """The inverse of `read_config`, in both forms, with the model_type."""
    thetas = {kind: config.thetas[is_global] for is_global, kind in KINDS.items()}
    return {
        "model_type": "modernbert",
        **{theirs: getattr(config, ours) for ours, (theirs, _) in HF_FIELDS.items()},
        **FIXED,
        "embedding_dropout": config.hidden_dropout,
        "global_attn_every_n_layers": config.global_every,
        "layer_types": [KINDS[config.is_global(i)] for i in range(config.num_layers)],
        **{key: config.thetas[is_global] for is_global, (key, _) in THETAS.items()},
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
    }


def _global_every(hf_config: Mapping[str, Any], num_layers: int) -> int:
    key = "global_attn_every_n_layers"
    told = RANGES["global_every"].check(key, hf_config.get(key, 3))
    kinds = hf_config.get("layer_types")
    if kinds is None:
        return told
    known = list(KINDS.values())
    if not isinstance(kinds, list) or len(kinds) != num_layers or not all(kind in known for kind in kinds):
        raise UserError(f"layer_types: expected a list of {num_layers} of {', '.join(known)}, got {str(kinds)[:200]}")
    if every := layer_kinds.period([kind == KINDS[True] for kind in kinds], told):
        return every
    raise UserError(
        f"layer_types is not supported: expected {KINDS[True]} in every n-th layer, from the first on, and "
        f"{KINDS[False]} in all others, got {str(kinds)[:200]}"
    )


def _theta(hf_config: Mapping[str, Any], *, is_global: bool) -> float:
    if hf_config.get("rope_scaling") is not None:
        raise UserError(f"rope_scaling {hf_config['rope_scaling']!r} is not supported; expected rotations as they are")
    of_kinds = hf_config.get("rope_parameters") or {}
    if not isinstance(of_kinds, dict) or not of_kinds.keys() <= set(KINDS.values()):
        raise UserError(f"rope_parameters: expected entries {', '.join(KINDS.values())}, got {str(of_kinds)[:200]}")
    told, (key, default) = of_kinds.get(KINDS[is_global]) or {}, THETAS[is_global]
    if not isinstance(told, dict) or told.get("rope_type", told.get("type", "default")) != "default":
        raise UserError(
            f"rope_parameters {told!r} of {KINDS[is_global]} are not supported; expected rope_type 'default'"
        )
    return RANGES["global_theta"].check("rope_theta", told.get("rope_theta", hf_config.get(key, default)))


FAMILY = Family(
    name="modernbert",
    title="ModernBERT",
    sizes=SIZES,
    from_scratch=lambda vocab_size, pad_token_id, **of_user: dataclasses.replace(
        BASE, vocab_size=vocab_size, pad_token_id=pad_token_id, **of_user
    ),
    read_config=read_config,
    write_config=write_config,
    keys=keys,
    prefix="model.",
    roots=("embeddings.", "final_norm.", "layers."),
    tied={"masked_lm": {"decoder.weight": WORD_TABLE}},
    class_prefix="ModernBert",
    encoder=rotary_transformer.Encoder,
    shrink={"layers": layer_kinds.shrink, "units": unit_selection.shrink},
    start_layers=layer_kinds.select,
    flops=rotary_transformer.flops,
)
