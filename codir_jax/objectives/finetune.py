"""Plain fine-tuning: the task's loss and nothing else. It trains teachers and is the baseline of every student."""

from ml_collections import ConfigDict

from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.sums import mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes.fields import defaults, field

HEADS, ROLES = ("classification",), ("student",)
NEEDS_LABELS = True
FIELDS = {"name": field("finetune", "the method, a file of codir_jax/objectives")}


def default_config() -> ConfigDict:
    """Fields of the method; the batch, optimizer and durations live elsewhere."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective L = mean over labelled examples of the cross entropy (regression: squared error)."""
    head = setting.head

    def init(rng, batch):
        return {"student": init_model(setting.student, rng, batch)}, {}, {}

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        student = params["student"]
        values = run_student(setting, student, batch, step.rng, lambda output, _: getattr(output, head.kept))
        terms = head.terms(config, batch, head.view(values, student))
        return mean(terms.task), (objective_state, terms.metrics)

    return Objective(init, loss, cost=no_cost)
