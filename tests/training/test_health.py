"""Gradients term by term, and the line that says that a term has nothing more to teach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.objectives.contract import Objective
from codir_jax.training import health


def test_norms_and_cosines_of_a_loss_whose_gradients_are_known():
    """task 3 x, twin 2 x + 2 y, against -x, nothing 0 x; at progress 0.5 every weight is halved."""

    def loss(params, frozen, state, batch, step):
        x, y = params["student"]["x"], params["student"]["y"][0]
        terms = {"task": 3 * x, "twin": 2 * x + 2 * y, "against": -x, "nothing": 0 * x}
        return step.progress * terms[step.term] * batch["scale"] + params["other"], (state, {})

    objective = Objective(None, loss, terms=("task", "twin", "against", "nothing"))
    params = {"student": {"x": jnp.float32(1), "y": jnp.ones(1)}, "other": jnp.float32(7)}
    found = health.term_gradients(objective)(params, {}, {}, {"scale": jnp.float32(4)}, 0.5)
    expected = {
        "gradient_norm_task": 6,
        "gradient_norm_twin": 4 * np.sqrt(2),
        "gradient_norm_against": 2,
        "gradient_norm_nothing": 0,
        "gradient_cosine_twin": np.sqrt(0.5),
        "gradient_cosine_against": -1,
        "gradient_cosine_nothing": 0,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_the_step_since_which_a_term_has_nothing_to_teach():
    since = {}
    learned = health.Learned({"rate": 0.99}, since)
    assert learned.look(10, {"rate": 0.5}) == [] and learned.look(20, {"loss": 1.0}) == []
    (line,) = learned.look(30, {"rate": 0.99})
    assert "nothing to teach since step 30" in line
    assert learned.look(40, {"rate": 1.0}) == [] and since == {"rate": 30}
    # A run that goes on tells nothing twice; a term that can teach again is one that begins anew.
    assert health.Learned({"rate": 0.99}, dict(since)).look(50, {"rate": 1.0}) == []
    assert learned.look(50, {"rate": 0.7}) == [] and since == {}
    assert "since step 60" in learned.look(60, {"rate": 1.0})[0]


@pytest.mark.slow
def test_the_terms_of_a_method_on_its_models(tmp_path):
    """Every evaluation of a run with train.health has its line, and the cosines are cosines."""
    import json

    from codir_jax import train

    config, arguments = (
        "configs/codir/finetune_distill.py:demo,tiny",
        {"train.health": "True", "objective.head_from": "0.5"},
    )
    train(config, tmp_path / "run", overrides=list(arguments.items()))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (found,) = [line for line in lines if "gradient_norm_task" in line]
    assert found["gradient_norm_contrastive"] > 0 and -1 <= found["gradient_cosine_contrastive"] <= 1
    assert jax.tree.all({k: np.isfinite(v) for k, v in found.items()})
    early, late = lines[0], [line for line in lines if "loss" in line][-1]
    assert "task_loss" not in early and "task_loss" in late
