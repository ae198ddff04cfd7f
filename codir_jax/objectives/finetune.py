"""Plain fine-tuning: the task loss and nothing else. It trains teachers and is the baseline of every student."""

import jax
from ml_collections import ConfigDict

from codir_jax.objectives.contract import Objective, Setting, init_model, mean
from codir_jax.objectives.head_terms import head_terms, read_head, require_head
from codir_jax.objectives.microbatches import run_student


def default_config() -> ConfigDict:
    """Fields of the method; the batch, optimizer and durations live elsewhere."""
    return ConfigDict({"name": "finetune"})


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective L = mean over labelled examples of the cross entropy (regression: squared error)."""
    require_head(setting, "classification", config.name)

    def init(rng, batch):
        return {"student": init_model(setting.student, rng, batch)}, {}, {}

    def loss(params, frozen, objective_state, batch, rng: jax.Array | None):
        del frozen
        logits = run_student(setting, params["student"], batch, rng, lambda output, _: read_head(setting, output))
        terms = head_terms(config, setting, batch, logits)
        return mean(terms.task), (objective_state, terms.metrics)

    return Objective(init, loss)
