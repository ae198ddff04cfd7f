"""MiniLMv2 as an objective: which vectors are compared, in microbatches too, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from codir_jax.models.apply import apply_model
from codir_jax.models.attention import PROJECTIONS
from codir_jax.objectives import relations
from codir_jax.objectives.contract import Step
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny

SETTING = tiny.pretraining_setting(teacher_width=32)


def _config(**changes):
    config = relations.default_config()
    config.update({"relation_weight": 3.0, **changes})
    return config


def _by_hand(params, frozen, batch):
    """Mean over the real texts, the kinds and two relation heads, from the weights of the two last layers."""
    mask, values = np.asarray(batch["attention_mask"]), []
    sides = ((SETTING.student, params["student"], 0), (SETTING.teacher, frozen["teacher"], 1))
    before = [apply_model(model, weights, batch).hidden_states[layer] for model, weights, layer in sides]
    for text in np.flatnonzero(batch["example_mask"]):
        real = np.flatnonzero(mask[text])
        for kind in relations.KINDS:
            logs = []
            for (_, weights, layer), states in zip(sides, before, strict=True):
                of = weights["encoder"][f"layer_{layer}"]["attention"][kind]
                width = states.shape[-1]
                kernel, bias = np.asarray(of["kernel"]).reshape(width, -1), np.asarray(of["bias"]).reshape(-1)
                heads = (np.asarray(states)[text, real] @ kernel + bias).reshape(len(real), 2, -1)
                scores = np.einsum("iad,jad->aij", heads, heads) / np.sqrt(width / 2)
                logs.append(scores - np.log(np.exp(scores).sum(-1, keepdims=True)))
            values.append(np.sum(np.exp(logs[1]) * (logs[1] - logs[0])) / (2 * len(real)))
    return np.mean(values)


def test_the_last_layers_queries_keys_and_values_are_compared_in_microbatches_too():
    batch = tiny.batch(SETTING, np.arange(6), num_padding=2)
    objective = relations.make(_config(head_from=0.5), SETTING)
    parts = unbox(jax.jit(objective.init)(jax.random.key(0), batch))
    value, (_, metrics) = jax.jit(objective.early.loss)(*parts, batch, Step())
    expected = _by_hand(parts[0], parts[1], batch)
    np.testing.assert_allclose(metrics["relation_loss"][0] / 6, expected, rtol=1e-4)
    np.testing.assert_allclose(value, 3 * expected, rtol=1e-4)
    cut = relations.make(_config(head_from=0.5), dataclasses.replace(SETTING, num_microbatches=4))
    np.testing.assert_allclose(jax.jit(cut.early.loss)(*parts, batch, Step())[0], value, rtol=1e-5)


def test_nothing_is_kept_unless_it_is_asked_for():
    batch = tiny.batch(SETTING, np.arange(2))
    params = jax.eval_shape(lambda: unbox(SETTING.student.init(jax.random.key(0), *(batch[n] for n in _INPUTS))))
    kept = jax.eval_shape(lambda p: apply_model(SETTING.student, p["params"], batch, mutable=[PROJECTIONS])[1], params)
    assert set(kept) == {PROJECTIONS}


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relations": "query+output"}, "expected some of query, key, value"),
        ({"relation_weight": -1.0}, "0 to 1"),
        ({"relation_heads": 3}, "does not divide the widths 16 and 32"),
        ({"relation_layers": "1:1,1:2"}, "is one pair"),
        ({"head_from": 0.5, "relation_weight": 0.0}, "there would be no loss"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        relations.make(_config(**changes), SETTING)
