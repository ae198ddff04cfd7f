"""The recipes of CoDIR: a fine-tuned classifier, or a masked language model for any task, at half its depth.

    codir compress --teacher=roberta-base --train=train.tsv --dev=dev.tsv --output=runs/mine
    codir compress --teacher=roberta-base --text='books/*.txt' --output=runs/any_task

The teacher is trained where the given one has no head for the task. One student is trained and exported: `l2`, with
--text `hidden_first`, each of them `best` of its config, as they are ahead of CoDIR (README.md). Others on request
(`--compare=finetune,distill,released,codir`; with --text `masked_lm,distill,l2,codir`), and then the best on dev is
exported. All students start from the same teacher layers.
"""

from codir_jax.config import parse_arguments
from codir_jax.data.sets.glue import TRAINABLE_TASKS
from codir_jax.jobs.recipe import Recipe, StageSpec

LABELLED = (*TRAINABLE_TASKS, "own", "demo")
FINE_TUNING = (
    ("finetune", "student, fine-tuning", "finetune"),
    ("distill", "student, soft targets", "distill"),
    ("released", "student, CoDIR (released)", "released"),
    ("codir", "student, CoDIR", "paper"),
    ("l2", "student, soft targets + L2", "best"),
)
PRE_TRAINING = (
    ("masked_lm", "student, masked LM only", "masked_lm"),
    ("distill", "student, + soft targets", "distill"),
    ("l2", "student, + soft targets + L2", "l2"),
    ("codir", "student, CoDIR", "codir"),
    ("hidden_first", "student, hidden states first", "best"),
)
GIVEN = (("student.init", "pretrained"), ("student.path", "{given}"), ("student.num_layers", "0"))
# The outputs of the teacher are kept once for all students.
STUDENT = (
    ("teacher.path", "{teacher}"),
    ("teacher.cache_dir", "{job}/teacher_cache"),
    ("student.num_layers", "{layers}"),
)


def get_recipe(argument: str) -> Recipe:
    """The recipe for "own", a GLUE task, "demo" or "text", and "scratch" where no teacher is given."""
    words = parse_arguments(argument, (*LABELLED, "text", "scratch"))
    from_scratch = "scratch" in words
    if "text" in words:
        return _pre_training(from_scratch)
    return _fine_tuning(next(word for word in words if word in LABELLED), from_scratch)


def _fine_tuning(data: str, from_scratch: bool) -> Recipe:
    start = () if from_scratch and data == "demo" else GIVEN
    teacher = StageSpec("teacher", "teacher", f"configs/codir/finetune_teacher.py:{data}", start)
    config = f"configs/codir/finetune_distill.py:{data}"
    students = [StageSpec(name, title, f"{config},{method}", STUDENT) for name, title, method in FINE_TUNING]
    return Recipe("Compression", (teacher, *students), main="l2")


def _pre_training(from_scratch: bool) -> Recipe:
    start = (("tokenizer_path", "{tokenizer}"),) if from_scratch else GIVEN
    teacher = StageSpec("teacher", "teacher", "configs/codir/pretrain_teacher.py:small", start)
    # That a teacher made here is weak is told, and there is a student all the same.
    settings = (*STUDENT, ("teacher.allow_weak", "{trains_teacher}"))
    config = "configs/codir/pretrain_distill.py:small"
    students = [StageSpec(name, title, f"{config},{method}", settings) for name, title, method in PRE_TRAINING]
    return Recipe("Compression of a language model", (teacher, *students), main="hidden_first")
