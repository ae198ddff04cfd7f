"""What a run's steps are made of beside one step of the whole model: words that occur, early steps, kept gathers."""

import dataclasses

import jax
import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.data import dataset
from codir_jax.plan import estimate, machines
from codir_jax.tasks import classification, labelled_outline
from tests.plan.compiled import plan

EARLY = (("head_from", 0.25), ("hidden_loss", "l2"), ("hidden_weight", 1.0))


def _table(planned):
    return planned.state.params["student"]["encoder"]["embeddings"]["word"]


def test_of_the_word_table_the_words_that_occur_are_planned():
    whole, some = (plan(vocab=8000, seen_words=n) for n in (0, 900))
    (rows, hidden), (fewer, _) = _table(whole)["embedding"].shape, _table(some)["embedding"].shape
    assert (rows, fewer) == (8000, 1024)  # of 901 with padding, a multiple of 128
    held = [one.state.opt_state for one in (whole, some)]
    moments = [sum(leaf.size for leaf in jax.tree.leaves(state)) for state in held]
    assert moments[0] - moments[1] == 2 * (8000 - 1024) * hidden
    sent = [sum(t.num_bytes for t in estimate.transfers(one) if "words" in t.what) for one in (whole, some)]
    assert sent == [4 * hidden * 8000, 4 * hidden * 1024]
    assert _table(plan(vocab=8000, seen_words=900, overrides=(("student.word_rows", "all"),)))["embedding"].shape == (
        8000,
        hidden,
    )


def test_the_words_of_a_plan_are_those_of_the_run(monkeypatch):
    config = config_lib.load("configs/codir/finetune_distill.py:demo,tiny")
    tokenizer = classification.fresh_tokenizer(config)
    train = dataset.load(config.data, tokenizer, seed=config.seed).splits["train"]
    found = labelled_outline.outline(config, 0, 0, tokenizer, "cpu")
    np.testing.assert_array_equal(found.seen_tokens, train.seen_tokens)
    assert labelled_outline.outline(config, 10**6, 0, tokenizer, "cpu").seen_tokens is None  # of more nobody knows
    monkeypatch.setattr(labelled_outline, "MAX_ALL", 100)
    assert labelled_outline.outline(config, 0, 0, tokenizer, "cpu").seen_tokens is None


def test_steps_before_the_head_joins_are_cheaper_and_programs_of_their_own():
    on = machines.parse("v5e-8")
    plain, early = (
        plan(pretrains=True, vocab=8000, objective=objective)
        for objective in ((), tuple((f"objective.{k}", v) for k, v in EARLY))
    )
    first, second = (estimate.estimate(one, on) for one in (plain, early))
    assert (estimate.num_programs(plain), estimate.num_programs(early)) == (1, 2)
    assert second.program_bytes == 2 * first.program_bytes
    steps, num_early = early.stage.num_steps, early.stage.initial_state.num_early_steps
    assert num_early == round(0.25 * steps) > 0
    seconds = second.seconds
    assert seconds["early"] < seconds["step"]
    assert seconds["run"] == pytest.approx(num_early * seconds["early"] + (steps - num_early) * seconds["step"])
    assert "early" not in first.seconds


def test_each_padded_length_is_a_program():
    planned = plan()
    two = dataclasses.replace(planned, length_buckets=(32, 64), shares=(0.5, 0.5))
    one, both = (estimate.estimate(p, machines.parse("v5e-8")).program_bytes for p in (planned, two))
    assert both == 2 * one > 0


def test_a_table_that_is_only_looked_up_is_not_kept_for_the_backward_pass():
    """Kernels are, rounded on a TPU; the table is where it is the decoder too."""
    few, many = (plan(method="finetune", mesh=(1, 8, 1), vocab=n) for n in (1000, 9000))
    kept = [estimate.passing_bytes(one, "gpu")["activations"] for one in (few, many)]
    assert kept[0] == kept[1]
    decoding = [plan(method="masked_lm", pretrains=True, mesh=(1, 8, 1), vocab=n) for n in (1000, 9000)]
    kept = [estimate.passing_bytes(one, "gpu")["activations"] for one in decoding]
    assert kept[1] - kept[0] > 8000 * 128 * 4
    gathered = {
        platform: sum(
            t.num_bytes for t in estimate.transfers(few, machines.parse(name)) if t.what == "student kernels (fsdp)"
        )
        for platform, name in (("gpu", "h200-8"), ("tpu", "v5e-8"))
    }
    assert gathered["gpu"] == 2 * gathered["tpu"] == 4 * 2 * 12 * 128**2


def test_layers_that_are_computed_again_keep_nothing_for_late_products_on_several_gpus():
    none, block = (plan(layers=(6, 6), overrides=(("student.remat", r),)) for r in ("none", "block"))
    assert (
        estimate.passing_bytes(block, "gpu")["activations"] < 0.4 * estimate.passing_bytes(none, "gpu")["activations"]
    )
