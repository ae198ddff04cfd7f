"""What student and teacher give on a batch: what their heads keep, pooled states, and states of tokens."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.models.layer_selection import match_layers
from codir_jax.models.pooling import first, masked_mean
from codir_jax.objectives.contract import Setting, TeacherView
from codir_jax.objectives.microbatches import in_microbatches, run_student

POOLINGS = ("mean", "first")
Pairs = tuple[tuple[int, int], ...]


class Wanted(NamedTuple):
    """What of the hidden states an objective compares.

    Attributes:
      pooled: (student layer, teacher layer) pairs that are compared as one vector a text; 0 is the embeddings.
      student_tokens, teacher_tokens: layers whose states of every token are compared.
    """

    pooled: Pairs
    student_tokens: tuple[int, ...] = ()
    teacher_tokens: tuple[int, ...] = ()


class Views(NamedTuple):
    """Student and teacher on the same batch.

    Attributes:
      student, teacher: what the terms of their heads need (`Head.view`).
      student_pooled, teacher_pooled: float32 [batch, pairs, width].
      student_tokens, teacher_tokens: layer -> float32 [batch, tokens, width].
    """

    student: Any
    teacher: Any
    student_pooled: jax.Array
    teacher_pooled: jax.Array
    student_tokens: dict[int, jax.Array]
    teacher_tokens: dict[int, jax.Array]


def matches(config: ConfigDict, setting: Setting) -> Pairs:
    """(student layer, teacher layer) pairs, 1-based."""
    return match_layers(config.layer_matches, setting.teacher.config.num_layers, setting.student.config.num_layers)


def pool(hidden_states, layers, attention_mask, pooling: str) -> jax.Array:
    """Pooled states of the chosen layers, float32 [batch, layers, width].

    Args:
      hidden_states: tuple of float [batch, tokens, width], embeddings first.
      layers: indices into it.
      attention_mask: int32 [batch, tokens].
      pooling: "mean" over real tokens, or "first".
    """
    chosen = [hidden_states[layer] for layer in layers]
    pooled = [first(states) if pooling == "first" else masked_mean(states, attention_mask) for states in chosen]
    return jnp.stack(pooled, axis=1)


def _tokens(hidden_states, layers) -> dict[int, jax.Array]:
    return {layer: hidden_states[layer].astype(jnp.float32) for layer in layers}


def teacher_view(config: ConfigDict, setting: Setting, wanted: Wanted, teacher_params, batch) -> dict[str, jax.Array]:
    """The teacher's side: {"teacher_logits" [batch, classes], "teacher_pooled" [batch, pairs, width]}.

    In place of the logits, of a masked LM "teacher_states" [batch, masked, width], of a sentence encoder
    "teacher_vectors" [batch, width]; "teacher_tokens", states of every token, where they are wanted. Taken from the
    batch where it was computed before, otherwise by running the teacher, deterministic (no dropout: the released code
    left it on). No gradient passes: the teacher is a constant.
    """
    kept = f"teacher_{setting.head.kept}"
    if "teacher_pooled" in batch:
        view = {name: batch[name].astype(jnp.float32) for name in (kept, "teacher_pooled")}
    else:
        output = setting.head.run(setting.teacher, teacher_params, batch)
        layers = [teacher for _, teacher in wanted.pooled]
        pooled = pool(output.hidden_states, layers, batch["attention_mask"], config.pooling)
        view = {kept: getattr(output, setting.head.kept), "teacher_pooled": pooled}
        if wanted.teacher_tokens:
            view["teacher_tokens"] = _tokens(output.hidden_states, wanted.teacher_tokens)
    return jax.lax.stop_gradient(view)


def kept_view(config: ConfigDict, setting: Setting, wanted: Wanted) -> TeacherView | None:
    """`teacher_view` for a cache.

    None where the states of every token are compared: those are too many to keep.
    """
    if wanted.teacher_tokens:
        return None
    layers = [teacher for _, teacher in wanted.pooled]
    key = {"layers": layers, "pooling": config.pooling}
    return TeacherView(functools.partial(teacher_view, config, setting, wanted), key)


def compute_views(config, setting: Setting, wanted: Wanted, params, frozen, batch, rng) -> Views:
    """Runs the student (with dropout where an rng is given) and takes the teacher's view, in microbatches."""
    head, layers = setting.head, [student for student, _ in wanted.pooled]

    def read(output, part):
        pooled = pool(output.hidden_states, layers, part["attention_mask"], config.pooling)
        return getattr(output, head.kept), pooled, _tokens(output.hidden_states, wanted.student_tokens)

    def view_of_teacher(part, _):
        return teacher_view(config, setting, wanted, frozen.get("teacher"), part)

    student, student_pooled, student_tokens = run_student(setting, params["student"], batch, rng, read)
    teacher = in_microbatches(view_of_teacher, setting.num_microbatches, batch, None)
    return Views(
        head.view(student, params["student"]),
        head.view(teacher[f"teacher_{head.kept}"], frozen.get("teacher")),
        student_pooled,
        teacher["teacher_pooled"],
        student_tokens,
        teacher.get("teacher_tokens", {}),
    )
