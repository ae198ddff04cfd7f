"""Whole sentences told from those of an n-gram model: noise-contrastive training of a score without normaliser.

    L = mean over sentences of  - ln sigmoid(D) - sum over their k noise sentences of ln sigmoid(-D)
    D = s(W) - ln q(W) - ln k

(He et al., arXiv 1602.06064; `losses/nce.py`). Its optimum is s = ln P, of a bi-directional model too, which maximum
likelihood cannot normalise. An unnormalised score starts as that of the words' frequencies: s and ln q are about -100
nats, and with |D| far above 20 one half of the loss has no gradient, the other a constant one. In the residual form the
model is what is added to ln q, 0 at the start.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses.nce import nce
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.heads.sentence_score import scores_in_microbatches
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("sentence_score",), ("student",)
READS_NOISE = True

# Of |D|: where a sigmoid's gradient is gone.
SATURATED = 20.0
FIELDS = {"name": field("sentence_nce", "the method, a file of codir_jax/objectives")}


def default_config() -> ConfigDict:
    """Fields of the method: none but its name; noise is of the data, the form of the score of the student."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the module's docstring.

    Raises:
      UserError: a residual score with tied tables; from `init`, batches without noise.
    """
    del config
    if (student := setting.student.config).residual and student.tie_embeddings:
        raise UserError(
            "student.residual=True starts at 0 by a table of its own for predicted words; set "
            "student.tie_embeddings=False"
        )

    def init(rng, batch):
        if batch["log_noise"].shape[1] < 2:
            raise UserError("objective.name='sentence_nce' needs noise, and data.num_noise is 0; 8 is usual")
        return {"student": started(init_model(setting.student, rng, batch), setting)}, {}, {}

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        scores = scores_in_microbatches(setting, params["student"], batch, step.rng)
        log_noise = residual_noise(setting.student, batch)
        losses = nce(scores, log_noise, scores.shape[1] - 1)
        metrics = health(scores - log_noise, batch["example_mask"])
        metrics["sentence_nce_loss"] = masked_sum(losses, batch["example_mask"])
        return mean(metrics["sentence_nce_loss"]), (objective_state, metrics)

    return Objective(init, loss, cost=no_cost)


def residual_noise(student, batch):
    """ln q as the loss needs it: 0 where it is a part of the score, and so cancels."""
    return jnp.zeros_like(batch["log_noise"]) if student.config.residual else batch["log_noise"]


def started(student, setting: Setting):
    """The weights of a fresh student before the first step: its score is that of the words' frequencies, or 0."""
    if setting.unigram is None or not setting.student.config.unnormalised:
        return student
    is_residual = setting.student.config.residual
    bias = jnp.zeros_like if is_residual else lambda _: jnp.log(jnp.asarray(setting.unigram, jnp.float32))
    changed = {"output_bias": bias}
    if is_residual and "output_embedding" in student:
        changed["output_embedding"] = jnp.zeros_like
    return student | {
        name: jax.tree.map(function, student[name]) for name, function in changed.items()
    }  # through the box of its axes


def health(log_ratio: jax.Array, example_mask: jax.Array):
    """What tells whether the loss still teaches, name -> (sum, count).

    Args:
      log_ratio: s - ln q, float32 [rows, 1 + k]. example_mask: float [rows].
    """
    k = log_ratio.shape[1] - 1
    far = jnp.abs(log_ratio - jnp.log(float(k))) > SATURATED
    return {
        "saturated": masked_sum(far.mean(axis=1), example_mask),
        "log_ratio_data": masked_sum(log_ratio[:, 0], example_mask),
        "log_ratio_noise": masked_sum(log_ratio[:, 1:].mean(axis=1), example_mask),
        "noise_accuracy": masked_sum((log_ratio[:, :1] > log_ratio[:, 1:]).mean(axis=1), example_mask),
    }
