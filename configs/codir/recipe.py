"""The recipes of CoDIR: a fine-tuned classifier, or a masked language model for any task, at half its depth.

    codir compress --teacher=roberta-base --train=train.tsv --dev=dev.tsv --output=runs/mine
    codir compress --teacher=roberta-base --text='books/*.txt' --output=runs/any_task

The teacher is trained where the given one has no head for the task; the student `codir` is trained and exported, the
baselines on request (`--compare=finetune,distill,l2,released`, with --text `masked_lm,distill,l2`).
"""

from codir_jax.jobs.recipe import Recipe, StageSpec
from codir_jax.processes.user_error import UserError


def fine_tuning() -> Recipe:
    """Labelled texts."""
    student = "configs/codir/finetune_distill.py:{data}"
    return Recipe(
        stages=(
            StageSpec("teacher", "teacher", "configs/codir/finetune_teacher.py:{data}"),
            StageSpec("finetune", "student, fine-tuning", f"{student},finetune"),
            StageSpec("distill", "student, soft targets", f"{student},distill"),
            StageSpec("l2", "student, soft targets + L2", f"{student},l2"),
            StageSpec("released", "student, CoDIR (released)", f"{student},released"),
            StageSpec("codir", "student, CoDIR", f"{student},paper"),
        ),
        main="codir",
    )


def pre_training() -> Recipe:
    """Running text."""
    student = "configs/codir/pretrain_distill.py:small"
    return Recipe(
        stages=(
            StageSpec("teacher", "teacher", "configs/codir/pretrain_teacher.py:small"),
            StageSpec("masked_lm", "student, masked LM only", f"{student},masked_lm"),
            StageSpec("distill", "student, + soft targets", f"{student},distill"),
            StageSpec("l2", "student, + soft targets + L2", f"{student},l2"),
            StageSpec("codir", "student, CoDIR", f"{student},codir"),
        ),
        main="codir",
    )


def get_recipe(task: str) -> Recipe:
    """The recipe for a task of `codir_jax/tasks`."""
    recipes = {"classification": fine_tuning, "masked_lm": pre_training}
    if task not in recipes:
        raise UserError(f"the recipe codir has no part for the task {task!r}; known: {', '.join(recipes)}")
    return recipes[task]()
