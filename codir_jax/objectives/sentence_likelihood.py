"""Maximum likelihood over whole sentences, each by itself: the control of `sentence_nce`.

    L = (1 / sentences) sum of -s(W),   s(W) = sum over words and the end of ln softmax(V c_t + d)_{w_t}

Of a model that reads from left to right s is ln P(W). Of a bi-directional one it is a pseudo-likelihood: no probability
of the sentence, and its "perplexity" is far lower than any language model's, so the two never stand side by side.
"""

from ml_collections import ConfigDict

from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.heads.sentence_score import scores_in_microbatches
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("sentence_score",), ("student",)
FIELDS = {"name": field("sentence_likelihood", "the method, a file of codir_jax/objectives")}


def default_config() -> ConfigDict:
    """Fields of the method: none but its name."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the module's docstring."""
    del config
    if setting.student.config.unnormalised:
        raise UserError(
            "student.unnormalised=True has no likelihood to maximise; leave it False, or train it by "
            "objective.name='sentence_nce'"
        )

    def init(rng, batch):
        return {"student": init_model(setting.student, rng, batch)}, {}, {}

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        scores = scores_in_microbatches(setting, params["student"], batch, step.rng)[:, 0]
        nats = masked_sum(-scores, batch["example_mask"])
        tokens = masked_sum(batch["attention_mask"][:, 0].sum(1), batch["example_mask"])
        return mean(nats), (objective_state, {"nats_per_token": (nats[0], tokens[0])})

    return Objective(init, loss, cost=no_cost)
