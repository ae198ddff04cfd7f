"""MiniLMv2: the student's queries, keys and values relate the tokens of a text as the teacher's do.

    L = w_task * L_task + w_kd * L_KD + w_relation * mean over the kinds of `losses.relations.relation_distance`

in one pair of layers, the last two unless said. Widths, depths and numbers of heads may differ, without a map between
them (Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation", Findings of ACL 2021; there alone and
the kinds summed, here beside the terms of the head and their mean). The teacher runs live.
"""

from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from codir_jax.losses.relations import relation_distance
from codir_jax.models.apply import projections_of
from codir_jax.models.layer_selection import match_layers
from codir_jax.models.transformer import PROJECTIONS
from codir_jax.objectives import distill
from codir_jax.objectives.contract import Objective, Setting, Step, init_model, masked_sum, mean, no_cost
from codir_jax.objectives.microbatches import in_microbatches, run_student
from codir_jax.objectives.schedules import check_schedule, scheduled
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("classification", "masked_lm"), ("student", "teacher")
KINDS = ("query", "key", "value")


def default_config() -> ConfigDict:
    """Fields of the method."""
    return ConfigDict(
        {
            "name": "relations",
            **distill.soft_defaults(),
            "relation_weight": 1.0,  # w_relation, >= 0
            "relation_schedule": "constant",  # multiplier over the run, as task_schedule
            "relations": "query+key+value",  # kinds, joined by +
            "relation_layers": "last",  # one pair student:teacher, such as "6:21"; "last": of both the last
            "relation_heads": 0,  # A, divides both widths; 0: the attention heads of the teacher
        }
    )


def check(config: ConfigDict) -> None:
    """Refuses fields that have no such value.

    Raises:
      UserError: what was expected, what came.
    """
    distill.check_soft(config)
    check_schedule("relation_schedule", config.relation_schedule)
    if not config.relation_weight >= 0:
        raise UserError(f"objective.relation_weight must be >= 0, got {config.relation_weight}")
    kinds = config.relations.split("+")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"objective.relations has {unknown}; known: {', '.join(KINDS)}, joined by +")
    if config.head_from and not config.relation_weight:
        raise UserError(f"objective.head_from={config.head_from}: before that there would be no loss; set it to 0")


class _Heads(NamedTuple):
    """What the head's terms read."""

    student: Any
    teacher: Any


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective.

    Raises:
      UserError: more than one pair of layers, heads that do not divide a width, or layers that are recomputed.
    """
    check(config)
    setting.head.check_distillation(config, setting.rows)
    ours, theirs = setting.student.config, setting.teacher.config
    layers = _pair(config, ours, theirs)
    num_heads = config.relation_heads or theirs.num_heads
    if ours.hidden_size % num_heads or theirs.hidden_size % num_heads:
        raise UserError(
            f"objective.relation_heads: {num_heads} does not divide the widths {ours.hidden_size} and "
            f"{theirs.hidden_size}; set a number that divides both"
        )
    for side, model in (("student", setting.student), ("teacher", setting.teacher)):
        if model.remat != "none":
            raise UserError(f"queries, keys and values are not kept where layers are recomputed; set {side}.remat=none")
    kinds = config.relations.split("+")

    def init(rng, batch):
        student_rng, teacher_rng = jax.random.split(rng)
        params = {"student": init_model(setting.student, student_rng, batch)}
        frozen = {"teacher": init_model(setting.teacher, teacher_rng, batch)}
        return params, frozen, distill.init_memory(config, setting)

    def run(model, params, layer, part, rng):
        output, kept = setting.head.run(model, params, part, rng, mutable=[PROJECTIONS])
        found = projections_of(kept, layer)
        return getattr(output, setting.head.kept), {kind: found[kind] for kind in kinds}

    def loss(params, frozen, objective_state, batch, step: Step, has_head=True):
        student, relating = run_student(
            setting,
            params["student"],
            batch,
            step.rng,
            lambda read, _: read,
            run=lambda part, rng: run(setting.student, params["student"], layers[0], part, rng),
        )
        of_teacher = lambda part, _: run(setting.teacher, frozen["teacher"], layers[1], part, None)  # noqa: E731
        teacher, related = jax.lax.stop_gradient(in_microbatches(of_teacher, setting.num_microbatches, batch, None))
        terms, metrics = {}, {}
        if has_head:
            head = setting.head
            views = _Heads(head.view(student, params["student"]), head.view(teacher, frozen["teacher"]))
            terms, objective_state, metrics = distill.soft_terms(
                config, setting, views, objective_state, batch, step.progress
            )
        mask = batch["attention_mask"]
        values = sum(relation_distance(relating[kind], related[kind], mask, num_heads) for kind in kinds) / len(kinds)
        metrics["relation_loss"] = masked_sum(values, batch["example_mask"])
        weight = config.relation_weight * scheduled(config.relation_schedule, step.progress)
        terms["relation"] = weight * mean(metrics["relation_loss"])
        return distill.total(terms, step), (objective_state, metrics)

    return Objective(
        init,
        loss,
        cost=no_cost,
        early=distill.early(config, loss),
        terms=("task", "soft_target", "relation"),
    )


def _pair(config: ConfigDict, ours, theirs) -> tuple[int, int]:
    """(student layer, teacher layer), 1-based."""
    if config.relation_layers == "last":
        return ours.num_layers, theirs.num_layers
    pairs = match_layers(config.relation_layers, theirs.num_layers, ours.num_layers)
    if len(pairs) != 1:
        raise UserError(f"objective.relation_layers={config.relation_layers!r} is one pair, such as '3:6', or 'last'")
    return pairs[0]
