"""Plain fine-tuning: the task loss and nothing else. It trains teachers and is the baseline of every student."""

import jax
from ml_collections import ConfigDict

from codir_jax.losses.task import task_loss
from codir_jax.objectives.contract import Objective, Setting, init_model, masked_sum, mean
from codir_jax.objectives.microbatches import run_student


def default_config() -> ConfigDict:
    """Fields of the method; the batch, optimizer and durations live elsewhere."""
    return ConfigDict({"name": "finetune"})


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective L = mean over labelled examples of the cross entropy (regression: squared error)."""
    del config

    def init(rng, batch):
        return {"student": init_model(setting.student, rng, batch)}, {}, {}

    def loss(params, frozen, objective_state, batch, rng: jax.Array | None):
        del frozen
        logits = run_student(setting, params["student"], batch, rng, lambda output, _: output.logits)
        task = masked_sum(task_loss(logits, batch["labels"], setting.info.is_regression), batch["label_mask"])
        return mean(task), (objective_state, {"task_loss": task})

    return Objective(init, loss)
