"""A language model that is taught by a larger one: cross entropy of the next token, and the teacher's soft targets.

    L = (1 / rows) sum over rows and tokens of w_task (-ln P(w_{t+1})) + w_kd T^2 KL(teacher || student)

over the whole vocabulary at every position (Hinton et al. 2015; for language models the word level of Kim & Rush, arXiv
1606.07947). Weights that sum to 1 keep the size of the loss at T = 1, and so what learning rate 1 and clipping at 5
mean: see `language_model`. Teacher and student read the same windows, each with a state of its own that goes from batch
to batch; the teacher runs in every step.
"""

import jax
from ml_collections import ConfigDict

from codir_jax.objectives import distill
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.heads import language_model as head
from codir_jax.objectives.language_model import carried, per_row, read, zeros
from codir_jax.objectives.microbatches import in_microbatches
from codir_jax.objectives.schedules import scheduled
from codir_jax.objectives.texts import init_model
from codir_jax.processes.fields import defaults, field

HEADS, ROLES = ("language_model",), ("student", "teacher")
SHARED = ("task_weight", "soft_target_weight", "task_schedule", "soft_target_schedule")
FIELDS = {
    "name": field("language_distill", "the method, a file of codir_jax/objectives"),
    **{name: distill.SOFT_FIELDS[name] for name in SHARED},
    "soft_target_temperature": field(1.0, "T of the soft targets", above=0, at_most=1e4),
    **head.FIELDS,
}


def default_config() -> ConfigDict:
    """Fields of the method."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the module's docstring."""

    def init(rng, batch):
        student_rng, teacher_rng = jax.random.split(rng)
        params = {"student": init_model(setting.student, student_rng, batch)}
        frozen = {"teacher": init_model(setting.teacher, teacher_rng, batch)}
        models = {"carry": setting.student, "teacher_carry": setting.teacher}
        return params, frozen, {name: zeros(model, batch) for name, model in models.items()}

    def loss(params, frozen, objective_state, batch, step: Step):
        def teach(part, _):
            output = setting.head.run(setting.teacher, frozen["teacher"], part)
            return output.states, output.carry

        states, carry = read(setting, params["student"], batch, objective_state["carry"], step.rng)
        of_teacher = {**batch, "carry": carried(objective_state["teacher_carry"], batch)}
        theirs, teacher_carry = in_microbatches(teach, setting.num_microbatches, of_teacher, None)
        terms = setting.head.terms(
            config,
            batch,
            setting.head.view(states, params["student"]),
            setting.head.view(*jax.lax.stop_gradient((theirs, frozen["teacher"]))),
        )
        weighted = {
            "task": config.task_weight * scheduled(config.task_schedule, step.progress) * terms.task[0],
            "soft_target": config.soft_target_weight
            * scheduled(config.soft_target_schedule, step.progress)
            * terms.soft[0],
        }
        after = {"carry": carry, "teacher_carry": teacher_carry}
        return per_row(distill.total(weighted, step), batch), (after, terms.metrics)

    return Objective(init, loss, cost=no_cost, terms=("task", "soft_target"))
