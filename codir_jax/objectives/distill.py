"""Knowledge distillation: task loss + soft targets, optionally + a distance between hidden states.

    L = w_task * L_task + w_kd * L_KD + w_hidden * L_hidden

every term a mean per example, or per masked token of a masked LM, so that no weight depends on the batch size (Hinton
et al. 2015; hidden terms: L2 of PKD, Sun et al. 2019, cosine of DistilBERT, Sanh et al. 2019). The same at fine-tuning,
at pre-training and for sentence encoders: the terms are the head's. Hidden states are compared one vector a text (PKD),
or token by token (`pooling="none"`: DistilBERT, TinyBERT), which needs a live teacher.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses import distillation
from codir_jax.models.layer_selection import match_layers, parse_matches
from codir_jax.models.pooling import first, masked_mean
from codir_jax.objectives.contract import (
    Metrics,
    Objective,
    Setting,
    Step,
    TeacherView,
    head_fields,
    init_model,
    masked_sum,
    mean,
    no_cost,
)
from codir_jax.objectives.microbatches import in_microbatches, run_student
from codir_jax.objectives.schedules import parse_schedule, scheduled
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field

HEADS, ROLES = ("classification", "masked_lm", "embedding"), ("student", "teacher")
HIDDEN_LOSSES = {"l2": distillation.normalized_l2, "cosine": distillation.cosine_distance}


# Of the terms that soft-target methods share. Weights are of means over examples, of a masked LM over masked tokens.
TERM_FIELDS = {
    "task_weight": field(0.5, "w_task, of labelled examples", at_least=0, at_most=1e6),
    "soft_target_weight": field(0.5, "w_kd, of all examples, unlabelled too", at_least=0, at_most=1e6),
    # T of T^2 KL(teacher || student); 2 in the released GLUE runs.
    "soft_target_temperature": field(2.0, "T of the soft targets", above=0, at_most=1e4),
    # Multipliers over the run: "constant" or points such as "0%:0 10%:1".
    "task_schedule": field("constant", "multiplier of task_weight over the run", reads=parse_schedule),
    "soft_target_schedule": field("constant", "multiplier of soft_target_weight over the run", reads=parse_schedule),
    # "uniform", "skip_last", "last", or pairs student:teacher, "1:2,2:4,3:6".
    "layer_matches": field("uniform", "layers whose states are compared", reads=parse_matches),
    # "mean" over real tokens, or the "first"; "none" compares token by token.
    "pooling": field("mean", "of hidden states over tokens", words=("mean", "first", "none")),
    **head_fields(),
}
FIELDS = {
    "name": field("distill", "the method, a file of codir_jax/objectives"),
    **TERM_FIELDS,
    # "l2" is on unit-normalised pooled states, as in PKD.
    "hidden_loss": field("none", "distance of hidden states", words=("none", *HIDDEN_LOSSES)),
    "hidden_weight": field(1.0, "w_hidden, weight of that distance", at_least=0, at_most=1e6),
    "hidden_schedule": field("constant", "multiplier of hidden_weight over the run", reads=parse_schedule),
}


def default_config() -> ConfigDict:
    """Fields of the method."""
    return ConfigDict(defaults(FIELDS))


class Views(NamedTuple):
    """Student and teacher on the same batch: what the terms of their heads need (`Head.view`), and pooled
    states [batch, matches, width], or [batch, tokens, matches, width] where nothing is pooled."""

    student: Any
    teacher: Any
    student_pooled: jax.Array
    teacher_pooled: jax.Array


def pool(hidden_states, layers, attention_mask, pooling: str) -> jax.Array:
    """Pooled states of the chosen layers, float32 [batch, layers, width]; unpooled [batch, tokens, layers, width].

    Args:
      hidden_states: tuple of float [batch, tokens, width], embeddings first.
      layers: indices into it.
      attention_mask: int32 [batch, tokens].
      pooling: "mean" over real tokens, "first" or "none".
    """
    if pooling == "none":
        return jnp.stack([hidden_states[layer].astype(jnp.float32) for layer in layers], axis=2)
    chosen = [hidden_states[layer] for layer in layers]
    pooled = [first(states) if pooling == "first" else masked_mean(states, attention_mask) for states in chosen]
    return jnp.stack(pooled, axis=1)


def matches(config: ConfigDict, setting: Setting) -> tuple[tuple[int, int], ...]:
    """(student layer, teacher layer) pairs, 1-based."""
    return match_layers(config.layer_matches, setting.teacher.config.num_layers, setting.student.config.num_layers)


def teacher_view(config: ConfigDict, setting: Setting, teacher_params, batch) -> dict[str, jax.Array]:
    """The teacher's side: {"teacher_logits" [batch, classes], "teacher_pooled" [batch, matches, width]}.

    In place of the logits, of a masked LM "teacher_states" [batch, masked, width], of a sentence encoder
    "teacher_vectors" [batch, width]. Taken from the batch where it was
    computed before, otherwise by running the teacher, deterministic (no dropout: the released code left it on). No
    gradient passes: the teacher is a constant.
    """
    kept = f"teacher_{setting.head.kept}"
    if "teacher_pooled" in batch:
        view = {name: batch[name].astype(jnp.float32) for name in (kept, "teacher_pooled")}
    else:
        output = setting.head.run(setting.teacher, teacher_params, batch)
        layers = [teacher for _, teacher in matches(config, setting)]
        pooled = pool(output.hidden_states, layers, batch["attention_mask"], config.pooling)
        view = {kept: getattr(output, setting.head.kept), "teacher_pooled": pooled}
    return jax.lax.stop_gradient(view)


def kept_view(config: ConfigDict, setting: Setting) -> TeacherView | None:
    """`teacher_view` for a cache.

    None where the states of every token are compared: those are too many to keep.
    """
    if config.pooling == "none":
        return None
    layers = [teacher for _, teacher in matches(config, setting)]
    return TeacherView(functools.partial(teacher_view, config, setting), {"layers": layers, "pooling": config.pooling})


def compute_views(config, setting: Setting, params, frozen, batch, rng) -> Views:
    """Runs the student (with dropout where an rng is given) and takes the teacher's view, in microbatches."""
    head, layers = setting.head, [student for student, _ in matches(config, setting)]

    def read(output, part):
        return getattr(output, head.kept), pool(output.hidden_states, layers, part["attention_mask"], config.pooling)

    def view_of_teacher(part, _):
        return teacher_view(config, setting, frozen.get("teacher"), part)

    student, student_pooled = run_student(setting, params["student"], batch, rng, read)
    teacher = in_microbatches(view_of_teacher, setting.num_microbatches, batch, None)
    return Views(
        head.view(student, params["student"]),
        head.view(teacher[f"teacher_{head.kept}"], frozen.get("teacher")),
        student_pooled,
        teacher["teacher_pooled"],
    )


def init_memory(config, setting: Setting) -> dict[str, Any]:
    """What the head keeps of earlier batches, entries of the objective's state."""
    return setting.head.memory(config, setting.teacher.config.hidden_size)


def soft_terms(config, setting: Setting, views: Views, state, batch, progress) -> tuple[jax.Array, Any, Metrics]:
    """Weighted task and soft-target terms, the state after the batch, and metrics.

    Args:
      state: of the objective; what is not the head's passes through.
      progress: float32 scalar, finished share of the run, for the schedules.
    """
    terms = setting.head.terms(config, batch, views.student, views.teacher, state)
    total = config.task_weight * scheduled(config.task_schedule, progress) * mean(terms.task)
    total += config.soft_target_weight * scheduled(config.soft_target_schedule, progress) * mean(terms.soft)
    return total, {**state, **(terms.memory or {})}, terms.metrics


def check(config: ConfigDict) -> None:
    """Refuses fields that have no such value.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective; hidden states of different width are joined by a trained linear map of the student's."""
    check(config)
    setting.head.check_distillation(config, setting.rows)
    matches(config, setting)
    student_width, teacher_width = (m.config.hidden_size for m in (setting.student, setting.teacher))
    joined = config.hidden_loss != "none" and student_width != teacher_width

    def init(rng, batch):
        student_rng, teacher_rng, map_rng = jax.random.split(rng, 3)
        params = {"student": init_model(setting.student, student_rng, batch)}
        if joined:
            shape = (student_width, teacher_width)
            params["hidden_map"] = jax.nn.initializers.lecun_normal()(map_rng, shape, jnp.float32)
        return params, {"teacher": init_model(setting.teacher, teacher_rng, batch)}, init_memory(config, setting)

    def loss(params, frozen, objective_state, batch, step: Step):
        views = compute_views(config, setting, params, frozen, batch, step.rng)
        total, objective_state, metrics = soft_terms(config, setting, views, objective_state, batch, step.progress)
        if config.hidden_loss != "none":
            student_pooled = views.student_pooled @ params["hidden_map"] if joined else views.student_pooled
            values = HIDDEN_LOSSES[config.hidden_loss](student_pooled, views.teacher_pooled)
            if config.pooling == "none":
                is_real = batch["attention_mask"].astype(jnp.float32)
                values = (values * is_real).sum(-1) / jnp.maximum(is_real.sum(-1), 1.0)
            hidden = masked_sum(values, batch["example_mask"])
            total += config.hidden_weight * scheduled(config.hidden_schedule, step.progress) * mean(hidden)
            metrics["hidden_loss"] = hidden
        return total, (objective_state, metrics)

    return Objective(init, loss, teacher_view=kept_view(config, setting), cost=no_cost)
