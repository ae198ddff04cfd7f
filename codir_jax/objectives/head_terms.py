"""What is asked of a model's head: the task's own loss and the teacher's soft targets, the same call for every head.

A classifier gives logits, one row an example. A masked LM gives the states before its decoder at the masked positions,
and the terms are means over masked tokens: [positions, vocabulary] is made in `losses.vocabulary` only, in parts.
"""

from typing import Any, NamedTuple

import jax

from codir_jax.losses import distillation
from codir_jax.losses.task import task_loss
from codir_jax.losses.vocabulary import Decoder, vocabulary_terms
from codir_jax.models.heads import decoder
from codir_jax.objectives.contract import Metrics, Setting, masked_sum
from codir_jax.processes.user_error import UserError

# What is read of a model's output, by the head of the setting.
OUTPUTS = {"classification": "logits", "masked_lm": "states"}
SumAndCount = tuple[jax.Array, jax.Array]


def vocabulary_defaults() -> dict:
    """Fields of every method that trains a masked LM."""
    return {
        # Words whose logits exist at a time, at most; 0: all. Of a masked LM only. At 8192 a step of 512 positions over
        # 30522 words, with a teacher, takes a fifth of the memory of all at once, and no longer on a CPU.
        "vocab_chunk_size": 8192,
    }


class HeadTerms(NamedTuple):
    """Attributes:
    task: (sum, count) of the task's loss. soft: likewise of the soft targets, None without a teacher.
    metrics: these and what is measured beside them.
    """

    task: SumAndCount
    soft: SumAndCount | None
    metrics: Metrics


def require_head(setting: Setting, head: str, method: str) -> None:
    """Refuses a setting of another head.

    Raises:
      UserError: what was expected, what came, what to do.
    """
    if setting.head != head:
        known = {"classification": "finetune, distill, codir", "masked_lm": "masked_lm, distill, codir"}
        raise UserError(
            f"objective {method!r} trains a {head} head, got {setting.head!r}; objectives for it: {known[setting.head]}"
        )


def require_one_vocabulary(setting: Setting) -> None:
    """Refuses a masked LM whose teacher has another vocabulary: there are no soft targets between the two.

    Raises:
      UserError: both sizes.
    """
    if setting.head == "masked_lm":
        student, teacher = (model.config.vocab_size for model in (setting.student, setting.teacher))
        if student != teacher:
            raise UserError(
                f"the student has a vocabulary of {student}, the teacher of {teacher}; at pre-training they must share "
                "one: give the student the teacher's tokenizer"
            )


def read_head(setting: Setting, output) -> jax.Array:
    """Of a model's output: logits float [batch, classes], or states float [batch, masked, hidden]."""
    return getattr(output, OUTPUTS[setting.head])


def head_view(setting: Setting, values: jax.Array, weights: Any) -> jax.Array | Decoder:
    """What `head_terms` compares: logits, or states with the decoder in the model's weights."""
    return Decoder(values, *decoder(weights)) if setting.head == "masked_lm" else values


def head_terms(config, setting: Setting, batch, student, teacher=None) -> HeadTerms:
    """Task and soft-target terms.

    Args:
      config: soft_target_temperature (with a teacher) and vocab_chunk_size (of a masked LM).
      batch: of `data.batch`.
      student, teacher: of `head_view`.
    """
    if setting.head == "masked_lm":
        return _masked_lm(config, batch, student, teacher)
    return _classification(config, batch, student, teacher, setting.info.is_regression)


def _classification(config, batch, student, teacher, is_regression) -> HeadTerms:
    task = masked_sum(task_loss(student, batch["labels"], is_regression), batch["label_mask"])
    metrics = {"task_loss": task}
    if teacher is None:
        return HeadTerms(task, None, metrics)
    if is_regression:
        soft = masked_sum(distillation.regression_loss(student[:, 0], teacher[:, 0]), batch["example_mask"])
    else:
        values = distillation.soft_target_loss(student, teacher, config.soft_target_temperature)
        soft = masked_sum(values, batch["example_mask"])
        same = student.argmax(-1) == teacher.argmax(-1)
        metrics["teacher_agreement"] = masked_sum(same, batch["example_mask"])
    return HeadTerms(task, soft, {**metrics, "soft_target_loss": soft})


def _masked_lm(config, batch, student, teacher) -> HeadTerms:
    temperature = 1.0 if teacher is None else config.soft_target_temperature
    terms = vocabulary_terms(
        student,
        batch["masked_labels"],
        teacher,
        temperature=temperature,
        chunk_size=config.vocab_chunk_size,
    )
    weights = batch["masked_weights"]
    task = masked_sum(terms.cross_entropy, weights)
    metrics = {"masked_lm_loss": task, "masked_accuracy": masked_sum(terms.is_correct, weights)}
    if teacher is None:
        return HeadTerms(task, None, metrics)
    soft = masked_sum(terms.soft_target, weights)
    agree = masked_sum(terms.agrees, weights)
    return HeadTerms(task, soft, {**metrics, "soft_target_loss": soft, "teacher_agreement": agree})
