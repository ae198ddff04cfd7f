"""Pre-training a masked language model, or going on with it. It makes teachers and is the baseline of every student."""

import jax
from ml_collections import ConfigDict

from codir_jax.objectives.contract import Objective, Setting, init_model, mean
from codir_jax.objectives.head_terms import head_terms, head_view, read_head, require_head, vocabulary_defaults
from codir_jax.objectives.microbatches import run_student


def default_config() -> ConfigDict:
    """Fields of the method; the batch, optimizer and durations live elsewhere."""
    return ConfigDict({"name": "masked_lm", **vocabulary_defaults()})


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective L = mean over masked tokens of the cross entropy of the true token (Devlin et al. 2019)."""
    require_head(setting, "masked_lm", config.name)

    def init(rng, batch):
        return {"student": init_model(setting.student, rng, batch)}, {}, {}

    def loss(params, frozen, objective_state, batch, rng: jax.Array | None):
        del frozen
        student = params["student"]
        states = run_student(setting, student, batch, rng, lambda output, _: read_head(setting, output))
        terms = head_terms(config, setting, batch, head_view(setting, states, student))
        return mean(terms.task), (objective_state, terms.metrics)

    return Objective(init, loss)
