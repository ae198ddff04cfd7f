"""ModernBERT's config.json in both of its forms, and what it may not say."""

import dataclasses
import json
from pathlib import Path

import pytest

from codir_jax.models import modernbert
from codir_jax.processes.user_error import UserError

BASE = modernbert.SIZES["modernbert-base"]
# What answerdotai/ModernBERT-base has of numbers, in the older form, with keys that are not looked at.
OLDER = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "decoder_bias": True,
    "embedding_dropout": 0.0,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "initializer_cutoff_factor": 2.0,
    "intermediate_size": 1152,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "pad_token_id": 50283,
    "position_embedding_type": "sans_pos",
    "vocab_size": 50368,
}
FULL, LOCAL = "full_attention", "sliding_attention"
ROTATIONS = {FULL: {"rope_type": "default", "rope_theta": 5.0}, LOCAL: {"rope_type": "default", "rope_theta": 3.0}}


def read(**changes):
    return modernbert.read_config({**OLDER, **changes})


def test_the_older_form_is_read():
    assert read() == BASE
    other = read(global_attn_every_n_layers=2, global_rope_theta=7, local_rope_theta=2.5, local_attention=64)
    assert (other.global_every, other.global_theta, other.local_theta, other.local_attention) == (2, 7.0, 2.5, 64)


def test_the_newer_form_is_read_and_goes_before_the_older_one():
    kinds = [FULL if i % 2 == 0 else LOCAL for i in range(22)]
    other = read(layer_types=kinds, rope_parameters=ROTATIONS)
    assert other == dataclasses.replace(BASE, global_every=2, global_theta=5.0, local_theta=3.0)
    # As transformers reads it: what one kind does not say is in the older form, or as ever.
    some = read(rope_parameters={FULL: {"rope_type": "default"}, LOCAL: None}, global_rope_theta=9.0)
    assert (some.global_theta, some.local_theta) == (9.0, 10_000.0)
    golden = Path(__file__).parent / "golden" / "modernbert_seqcls" / "config.json"
    told = json.loads(golden.read_text(encoding="utf-8"))
    del told["global_attn_every_n_layers"]
    assert modernbert.read_config(told).global_every == 2


def test_what_is_not_said_is_what_transformers_assumes():
    assert modernbert.read_config({}) == dataclasses.replace(BASE, classifier_pooling="cls")


def test_both_forms_are_written_and_say_the_same():
    config = dataclasses.replace(BASE, num_layers=5, global_every=2, global_theta=5.0, local_theta=3.0)
    written = modernbert.write_config(config)
    assert written["layer_types"] == [FULL, LOCAL, FULL, LOCAL, FULL]
    newer = ("layer_types", "rope_parameters")
    older = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
    for left_out in (newer, older):
        assert modernbert.read_config({k: v for k, v in written.items() if k not in left_out}) == config
    assert modernbert.read_config({**OLDER, **written}) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_bias": True}, "norm_bias True is not supported: published ModernBERT models have False"),
        ({"decoder_bias": False}, "decoder_bias False is not supported"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False is not supported"),
        ({"embedding_dropout": 0.1}, "embedding_dropout 0.1 and mlp_dropout 0.0 differ"),
        ({"is_decoder": True}, "describes a decoder"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling .* is not supported"),
        ({"rope_parameters": {FULL: {"rope_type": "yarn", "rope_theta": 1e4}}}, "full_attention are not supported"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters: expected entries full_attention, sliding_atten"),
        ({"local_rope_theta": None}, "rope_theta: expected a number"),
        ({"layer_types": [FULL] * 3}, "layer_types: expected a list of 22 of full_attention"),
        ({"layer_types": [LOCAL] * 22}, "layer_types is not supported: expected full_attention in every n-th layer"),
        ({"layer_types": ["chunked_attention"] * 22}, "layer_types: expected a list of 22"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers: expected a whole number, 1 to"),
        ({"local_attention": -1}, "local_attention: expected a whole number, 1 to"),
        ({"classifier_pooling": "max"}, "classifier_pooling 'max' is not supported; known: cls, mean"),
        ({"hidden_activation": "silu"}, "hidden_act 'silu' is not supported"),
        ({"num_attention_heads": 256}, "heads of 3 features cannot be turned in pairs"),
    ],
)
def test_what_cannot_be_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        read(**changes)
