"""Knowledge distillation: task loss + soft targets, optionally + a distance between hidden states.

    L = w_task * L_task + w_kd * L_KD + w_hidden * L_hidden

every term a mean per example, or per masked token of a masked LM, so that no weight depends on the batch size (Hinton
et al. 2015; L_hidden: `hidden_term`). The same at fine-tuning, at pre-training and for sentence encoders: the first two
terms are the head's. They may join after a share of the run (`head_from`): before it a step has no product with the
vocabulary, which of a small masked LM is half of its cost.
"""

import functools
from typing import Any

import jax
from ml_collections import ConfigDict

from codir_jax.models.layer_selection import parse_matches
from codir_jax.objectives import hidden_term
from codir_jax.objectives.contract import Early, Objective, Setting, Step, head_fields
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.schedules import parse_schedule, scheduled
from codir_jax.objectives.sums import Metrics, mean
from codir_jax.objectives.texts import init_model
from codir_jax.objectives.views import POOLINGS, Views, Wanted, compute_views, kept_view, matches
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("classification", "masked_lm", "embedding"), ("student", "teacher")


# Of the head's terms, the task's and the soft targets. Weights are of means over examples, of a masked LM over masked
# tokens.
SOFT_FIELDS = {
    "task_weight": field(0.5, "w_task, of labelled examples", at_least=0, at_most=1e6),
    "soft_target_weight": field(0.5, "w_kd, of all examples, unlabelled too", at_least=0, at_most=1e6),
    # T of T^2 KL(teacher || student); 2 in the released GLUE runs.
    "soft_target_temperature": field(2.0, "T of the soft targets", above=0, at_most=1e4),
    # Multipliers over the run: "constant" or points such as "0%:0 10%:1".
    "task_schedule": field("constant", "multiplier of task_weight over the run", reads=parse_schedule),
    "soft_target_schedule": field("constant", "multiplier of soft_target_weight over the run", reads=parse_schedule),
    # Steps before it cost nothing of them.
    "head_from": field(0.0, "share of the run after which task and soft targets join", at_least=0, below=1),
    **head_fields(),
}
# Of the terms that methods share which compare hidden states.
TERM_FIELDS = {
    **SOFT_FIELDS,
    # "uniform", "skip_last", "last", or pairs student:teacher, "1:2,2:4,3:6".
    "layer_matches": field("uniform", "layers whose states are compared", reads=parse_matches),
    # "mean" over real tokens, or the "first".
    "pooling": field("mean", "of hidden states over tokens", words=POOLINGS),
    **hidden_term.FIELDS,
}
FIELDS = {"name": field("distill", "the method, a file of codir_jax/objectives"), **TERM_FIELDS}


def default_config(preset: str = "plain") -> ConfigDict:
    """Fields of the method. `preset` is "plain" (soft targets) or "best" (of masked LMs)."""
    config = ConfigDict(defaults(FIELDS))
    if preset == "best":
        # Every token's states first, the vocabulary in the last quarter. Evidence: configs/codir/README.md.
        config.update({"hidden_loss": "l2", "hidden_unit": "token", "hidden_weight": 64.0, "head_from": 0.75})
    elif preset != "plain":
        raise UserError(f"unknown preset {preset!r} of distill; known: plain, best")
    return config


def init_memory(config, setting: Setting) -> dict[str, Any]:
    """What the head keeps of earlier batches, entries of the objective's state."""
    return setting.head.memory(config, setting.teacher.config.hidden_size)


def soft_terms(config, setting: Setting, views, state, batch, progress) -> tuple[dict, Any, Metrics]:
    """Weighted task and soft-target terms, the state after the batch, and metrics.

    Args:
      views: has `student` and `teacher`, of `Head.view`.
      state: of the objective; what is not the head's passes through.
      progress: float32 scalar, finished share of the run, for the schedules.
    """
    terms = setting.head.terms(config, batch, views.student, views.teacher, state)
    weighted = {
        "task": config.task_weight * scheduled(config.task_schedule, progress) * mean(terms.task),
        "soft_target": config.soft_target_weight * scheduled(config.soft_target_schedule, progress) * mean(terms.soft),
    }
    return weighted, {**state, **(terms.memory or {})}, terms.metrics


def hidden_terms(config, setting: Setting, params, views: Views, batch, progress) -> tuple[dict, Metrics]:
    """The weighted term of the hidden states and its metric; nothing where it is off."""
    if not hidden_term.is_on(config):
        return {}, {}
    hidden = hidden_term.term(config, setting, params, views, batch)
    weight = config.hidden_weight * scheduled(config.hidden_schedule, progress)
    return {"hidden": weight * mean(hidden)}, {"hidden_loss": hidden}


def names_of_terms(config: ConfigDict) -> tuple[str, ...]:
    """Of `soft_terms` and `hidden_terms`."""
    return ("task", "soft_target", *(("hidden",) if hidden_term.is_on(config) else ()))


def total(weighted: dict[str, jax.Array], step: Step) -> jax.Array:
    """The sum of the terms, or the one that the step names."""
    return sum(weighted.values()) if step.term is None else weighted[step.term]


def early(config: ConfigDict, loss) -> Early | None:
    """The part of a run before the head's terms join; None where they are there from the first step.

    Args:
      loss: takes `has_head` beside the arguments of `Objective.loss`.
    """
    return Early(config.head_from, functools.partial(loss, has_head=False)) if config.head_from else None


def check(config: ConfigDict) -> None:
    """Refuses fields that contradict each other or have no such value.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")
    if config.head_from and not (hidden_term.is_on(config) and config.hidden_weight):
        raise UserError(
            f"objective.head_from={config.head_from}: before that there would be no loss; set objective.hidden_loss=l2 "
            "and a hidden_weight, or head_from=0"
        )


def wanted(config: ConfigDict, setting: Setting) -> Wanted:
    """The hidden states that are compared."""
    pairs = hidden_term.pairs(config, setting)
    if config.hidden_unit == "text" or not pairs:
        return Wanted(pairs or matches(config, setting))
    return Wanted(matches(config, setting), *(tuple(sorted(set(layers))) for layers in zip(*pairs, strict=True)))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective; hidden states of different width are joined by a trained linear map of the student's."""
    check(config)
    setting.head.check_distillation(config, setting.rows)
    compared = wanted(config, setting)

    def init(rng, batch):
        student_rng, teacher_rng, map_rng = jax.random.split(rng, 3)
        params = {"student": init_model(setting.student, student_rng, batch)}
        params |= hidden_term.init(map_rng, config, setting)
        return params, {"teacher": init_model(setting.teacher, teacher_rng, batch)}, init_memory(config, setting)

    def loss(params, frozen, objective_state, batch, step: Step, has_head=True):
        views = compute_views(config, setting, compared, params, frozen, batch, step.rng)
        terms, metrics = {}, {}
        if has_head:
            terms, objective_state, metrics = soft_terms(config, setting, views, objective_state, batch, step.progress)
        hidden, of_hidden = hidden_terms(config, setting, params, views, batch, step.progress)
        return total({**terms, **hidden}, step), (objective_state, {**metrics, **of_hidden})

    return Objective(
        init,
        loss,
        teacher_view=kept_view(config, setting, compared),
        cost=no_cost,
        early=early(config, loss),
        terms=names_of_terms(config),
    )
