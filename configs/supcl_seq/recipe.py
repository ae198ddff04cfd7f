"""SupCL-Seq as one job: an encoder in which texts of one class lie together, then a linear classifier on it.

    codir compress --recipe=supcl_seq --model=bert-base-uncased --train=train.tsv --dev=dev.tsv --output=runs/mine
    codir compress --recipe=supcl_seq --model=bert-base-uncased --task=cola --compare=augmented --output=runs/cola
    codir compress --recipe=supcl_seq --output=runs/demo

Without files and model a small one is trained from scratch on embedded texts: a demonstration. Baselines: `finetune`
(cross entropy), `augmented` (cross entropy on the same dropout views, as many passes: the control that decides),
`joint` (cross entropy and contrast at once), `self_supervised` (contrast without classes, then a linear classifier).
"""

from codir_jax.config import parse_arguments
from codir_jax.data.sets.glue import TRAINABLE_TASKS
from codir_jax.jobs.recipe import Recipe, StageSpec

TASKS = (*(task for task in TRAINABLE_TASKS if task != "stsb"), "own", "demo")  # stsb has numbers, not classes


def get_recipe(argument: str) -> Recipe:
    """The recipe for a GLUE task of classes, "own" or "demo", and "scratch" where no model is given."""
    words = parse_arguments(argument, (*TASKS, "scratch"))
    data = next(word for word in words if word in TASKS)
    start = (("student.init", "pretrained"), ("student.path", "{given}"), ("student.num_layers", "0"))
    if data == "demo" and "scratch" in words:
        start = ()
    contrast, head = f"configs/supcl_seq/contrast.py:{data}", f"configs/supcl_seq/linear_head.py:{data}"
    stages = (
        StageSpec("finetune", "cross entropy", f"configs/codir/finetune_teacher.py:{data}", start),
        StageSpec("augmented", "cross entropy on the same views", f"{contrast},augmented", start),
        StageSpec("joint", "cross entropy + contrast", f"{contrast},joint", start),
        StageSpec("views", "contrast of views", f"{contrast},self_supervised", start, in_table=False),
        StageSpec("self_supervised", "self-supervised contrast", head, (("teacher.path", "{views}"),)),
        StageSpec("contrast", "supervised contrast", f"{contrast},supervised", start, in_table=False),
        StageSpec("supcl_seq", "SupCL-Seq", head, (("teacher.path", "{contrast}"),)),
    )
    return Recipe("Classifier by SupCL-Seq", stages, main="supcl_seq")
