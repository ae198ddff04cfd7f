"""MiniLMv2: the student's queries, keys and values relate the tokens of a text as the teacher's do.

    L = w_task * L_task + w_kd * L_KD + w_relation * mean over the kinds of `losses.relations.relation_distance`

in one pair of layers, the last two unless said. Widths, depths and numbers of heads may differ, without a map between
them (Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation", Findings of ACL 2021; there alone and
the kinds summed, here beside the terms of the head and their mean). The teacher runs live.
"""

import functools
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from codir_jax.losses.relations import relation_distance
from codir_jax.models.apply import projections_of
from codir_jax.models.attention import PROJECTIONS
from codir_jax.models.layer_selection import match_layers, parse_matches
from codir_jax.objectives import distill
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.microbatches import in_microbatches, run_student
from codir_jax.objectives.schedules import parse_schedule, scheduled
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field, parse_joined
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("classification", "masked_lm"), ("student", "teacher")
KINDS = ("query", "key", "value")


FIELDS = {
    "name": field("relations", "the method, a file of codir_jax/objectives"),
    **distill.SOFT_FIELDS,
    "relation_weight": field(1.0, "w_relation, weight of the relations", at_least=0, at_most=1e6),
    "relation_schedule": field("constant", "multiplier of relation_weight over the run", reads=parse_schedule),
    "relations": field(
        "query+key+value", "kinds of vectors, joined by +", reads=functools.partial(parse_joined, known=KINDS)
    ),
    # One pair student:teacher, such as "6:21"; "last": of both the last.
    "relation_layers": field("last", "layers whose relations are compared", reads=parse_matches),
    # A, divides both widths; 0: the attention heads of the teacher.
    "relation_heads": field(0, "relation heads", at_least=0, at_most=65_536),
}


def default_config() -> ConfigDict:
    """Fields of the method."""
    return ConfigDict(defaults(FIELDS))


def check(config: ConfigDict) -> None:
    """Refuses fields that have no such value.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")
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
    kinds = parse_joined(config.relations, KINDS)

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
