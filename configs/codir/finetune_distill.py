"""Stage 2: compress a fine-tuned teacher into a student of half its depth.

    codir train --config=configs/codir/finetune_distill.py:sst2 \\
        --config.teacher.path=runs/teacher --workdir=runs/student

Arguments, comma separated: a task (cola sst2 mrpc stsb qqp mnli qnli rte wnli, own, demo), a method, and `tiny`.
Methods: `paper` (default: CoDIR with InfoNCE), `released` (CoDIR as its code was published, defects repaired), `best`
(ours: soft targets + L2 of the pooled hidden states, whose weight falls to 0 over the run; the evidence is in
README.md), and the baselines `distill` (soft targets) and `finetune` (task loss only). All start from the same teacher
layers.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.data.sets.glue import TRAINABLE_TASKS
from codir_jax.objectives import codir, distill, finetune
from codir_jax.stage import config as stage_config

TASKS = (*TRAINABLE_TASKS, "own", "demo")
METHODS = ("paper", "released", "best", "distill", "finetune")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "sst2", "rte,released" or "demo,distill,tiny"."""
    words = parse_arguments(argument, (*TASKS, *METHODS, "tiny"), TASKS, METHODS)
    task = next((word for word in words if word in TASKS), "demo" if "tiny" in words else "cola")
    method = next((word for word in words if word in METHODS), "paper")
    config = stage_config.default_config(objective_config(method))
    config.data.name = "text_classification" if task == "own" else task
    # A cut-down student needs more epochs and a higher rate than its teacher did.
    config.optimizer.update({"learning_rate": 1e-4, "of_width": 768})
    config.train.total_epochs = 6.0
    if task == "demo":
        config.data.update({"max_length": 18, "batch_size": 64, "num_length_buckets": 2, "bucket_window": 16})
        config.optimizer.update({"learning_rate": 5e-4, "of_width": 0})
        config.train.total_epochs = 2.0
    if "tiny" in words:
        config.data.update({"demo_num_train": 512, "demo_num_dev": 128, "max_length": 18})
        config.data.num_length_buckets = 1
        config.train.update({"total_epochs": 1.0, "log_every_steps": 4})
        config.teacher.update({"allow_weak": True, "config": f"configs/codir/finetune_teacher.py:{task},tiny"})
    return config


def objective_config(method: str) -> ConfigDict:
    """The objective of a method's name."""
    if method in ("paper", "released"):
        return codir.default_config(method)
    if method == "finetune":
        return finetune.default_config()
    config = distill.default_config()
    if method == "best":
        # Guided first, free at the end: a weight that is too high for a task then costs it less.
        config.update({"hidden_loss": "l2", "hidden_weight": 8.0, "hidden_schedule": "0%:1 100%:0"})
    return config
