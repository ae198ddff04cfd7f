"""Floating-point operations of a training step, by what they are for."""

from codir_jax.evaluation import cost
from codir_jax.models.transformer import TransformerConfig

# Additions and multiplications a weight: two moments, decay, clipping and the update, as XLA counts them.
OPTIMIZER_FLOPS = 20


def student_passes(remat: str, num_microbatches: int) -> float:
    """How many forward passes the student's forward and backward pass cost.

    The backward pass is two. Microbatches encode everything twice (gradient caching); "block" computes each layer once
    more in the backward pass. "dots" repeats the attention's products only, which is told as nothing.
    """
    return 3.0 + (num_microbatches > 1) + (remat == "block")


def encoders(
    student: TransformerConfig,
    teacher: TransformerConfig | None,
    outputs: cost.Outputs | None,
    length: int,
    rows: int,
    *,
    remat: str,
    num_microbatches: int,
) -> dict[str, float]:
    """{"student", "teacher"}: operations of a step on `rows` texts of `length` tokens; no teacher is 0."""
    passes = student_passes(remat, num_microbatches)
    return {
        "student": rows * passes * cost.model_flops(student, length, outputs),
        "teacher": rows * cost.model_flops(teacher, length, outputs) if teacher else 0.0,
    }
