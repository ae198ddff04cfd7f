"""A sentence encoder at half its depth as one job, from texts without labels.

    codir compress --recipe=distill_encoder --teacher=all-MiniLM-L6-v2 --train=texts.txt --output=runs/small
    codir compress --recipe=distill_encoder --output=runs/demo

--dev is two texts and a score; without it nothing is judged, and the last checkpoint is kept. Baselines, each an arm of
train.py: `--compare=similarity,both,codir`. All students start from the same teacher layers, and share one pass of
the teacher over the texts. Without files and model a small encoder is trained on embedded pairs first: a demonstration.
"""

from codir_jax.config import parse_arguments
from codir_jax.jobs.recipe import TEACHER, Recipe, StageSpec

ARMS = (
    ("similarity", "student, similarities"),
    ("both", "student, vectors + similarities"),
    ("codir", "student, vectors + CoDIR"),
    ("vectors", "student, vectors"),
)


def get_recipe(argument: str) -> Recipe:
    """The recipe for "own" or "demo", and "scratch" where no teacher is given."""
    words = parse_arguments(argument, ("own", "demo", "scratch"))
    data = "own" if "own" in words else "demo"
    if data == "demo" and "scratch" in words:
        deep = (("student.num_layers", "4"),)
        teacher, path = StageSpec(TEACHER, "teacher", "configs/pair_supcon/train.py:demo", deep), f"{{{TEACHER}}}"
    else:
        teacher, path = StageSpec("given_teacher", "teacher", ""), "{given}"
    settings = (
        ("teacher.path", path),
        ("teacher.cache_dir", "{job}/teacher_cache"),
        ("student.num_layers", "{layers}"),
    )
    students = [
        StageSpec(name, title, f"configs/distill_encoder/train.py:{data},{name}", settings) for name, title in ARMS
    ]
    return Recipe("Distilled sentence encoder", (teacher, *students), main="vectors", needs_dev=False)
