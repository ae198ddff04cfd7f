"""Counts against published and compiled numbers; latency only for its shape, never for its value."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.evaluation import cost
from codir_jax.models import sizes
from codir_jax.models.heads import build_model
from codir_jax.models.transformer import TransformerConfig

BASE = sizes.named("bert-base")
SMALL = TransformerConfig(
    family="bert",
    vocab_size=50,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    intermediate_size=256,
    max_positions=32,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=0,
    position_offset=0,
)


def _init(config):
    model = build_model(config, "classification", 3)
    ids = jnp.ones((1, 8), jnp.int32)
    return model, jax.jit(model.init)(jax.random.key(0), ids, ids, ids)  # one compilation, not one an operation


def test_parameters_are_counted_from_arrays_and_from_shapes():
    tree = {"a": np.zeros((3, 4), np.float16), "b": [np.zeros(5), np.float32(1.0)]}
    assert cost.count_parameters(tree) == 3 * 4 + 5 + 1
    assert cost.count_parameters({"a": jax.ShapeDtypeStruct((2, 3), jnp.float32)}) == 6


def test_base_encoder_takes_the_published_22_5_gflop_at_128_tokens():
    # Per layer and token 8 H^2 + 4 L H + 4 H F. MobileBERT (arXiv 2004.02984) gives 22.5B for BERT-base.
    by_hand = 12 * 128 * (8 * 768**2 + 4 * 128 * 768 + 4 * 768 * 3072) + 2 * 768**2 + 2 * 768 * 2
    assert cost.model_flops(BASE, 128, cost.Outputs(2)) == by_hand
    assert by_hand == pytest.approx(22.5e9, rel=0.01)


def test_flops_agree_with_the_compiler_up_to_what_is_not_a_product():
    model, params = _init(SMALL)
    ids = jnp.ones((1, 32), jnp.int32)
    compiled = jax.jit(lambda p: model.apply(p, ids, ids, ids).logits).lower(params).compile()
    counted = cost.model_flops(SMALL, 32, cost.Outputs(3))
    # Biases, norms, softmax and GELU are a larger share at hidden 64 than at 768.
    assert counted < compiled.cost_analysis()["flops"] < 1.25 * counted


def test_half_the_layers_take_half_the_flops():
    half = dataclasses.replace(SMALL, num_layers=1)
    assert cost.model_flops(half, 16, cost.Outputs(2)) / cost.model_flops(SMALL, 16, cost.Outputs(2)) == pytest.approx(
        0.5, abs=0.01
    )


def test_latency_reports_each_model_and_batch_size_and_alternates():
    traced, order = [], []

    def model(name):
        def apply_fn(params, input_ids, attention_mask, token_type_ids):
            traced.append((name, input_ids.shape))
            jax.debug.callback(lambda: order.append(name), ordered=True)
            return params * (input_ids + attention_mask + token_type_ids).sum()

        return apply_fn, np.float32(2.0)

    result = cost.latency(
        {"teacher": model("teacher"), "student": model("student")},
        seq_len=4,
        batch_sizes=(1, 2),
        num_repeats=4,
        num_warmup=4,
    )
    jax.effects_barrier()
    assert set(result) == {"teacher", "student"}
    assert list(result["student"]) == ["batch_1_p50_ms", "batch_1_p95_ms", "batch_2_p50_ms", "batch_2_p95_ms"]
    assert all(0 < times["batch_1_p50_ms"] <= times["batch_1_p95_ms"] for times in result.values())
    # Compiled once for each batch size, then run in turns, each of the two going first equally often.
    assert sorted(set(traced)) == sorted((name, (b, 4)) for name in ("student", "teacher") for b in (1, 2))
    firsts = order[0::2]
    assert all({a, b} == {"teacher", "student"} for a, b in zip(order[0::2], order[1::2], strict=True))
    assert {firsts.count("teacher"), firsts.count("student")} == {8}


def test_latency_runs_a_real_model():
    model, params = _init(SMALL)
    result = cost.latency({"student": (model.apply, params)}, seq_len=8, batch_sizes=(1,), num_repeats=2, num_warmup=1)
    assert result["student"]["batch_1_p50_ms"] > 0


def test_impossible_requests_are_told():
    with pytest.raises(ValueError, match="num_warmup >= 1"):
        cost.latency({}, seq_len=4, num_warmup=0)
    with pytest.raises(ValueError, match="at least 1"):
        cost.model_flops(BASE, 0, cost.Outputs(2))
