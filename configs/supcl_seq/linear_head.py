"""Stage 2 of SupCL-Seq: a linear classifier on the frozen encoder of stage 1, whose vectors are computed once.

    codir train --config=configs/supcl_seq/linear_head.py:cola --config.teacher.path=runs/contrast \\
        --workdir=runs/classifier

Arguments, comma separated: a task (cola sst2 mrpc qqp mnli qnli rte wnli, own, demo) and `tiny`. `teacher.path` is the
workdir of stage 1; without it the stages of the demo run one after the other.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.data.sets.glue import TRAINABLE_TASKS
from codir_jax.objectives import linear_head
from codir_jax.stage import config as stage_config

TASKS = (*(task for task in TRAINABLE_TASKS if task != "stsb"), "own", "demo")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "cola" or "demo,tiny"; without a task, cola."""
    words = parse_arguments(argument, (*TASKS, "tiny"), TASKS)
    task = next((word for word in words if word in TASKS), "demo" if "tiny" in words else "cola")
    config = stage_config.default_config(linear_head.default_config())
    config.data.name = "text_classification" if task == "own" else task
    config.data.batch_size = 128
    config.teacher.cache = "on"
    config.student.update({"init": "teacher", "num_layers": -1})
    config.optimizer.update({"learning_rate": 1e-2, "weight_decay": 0.0})
    config.optimizer.rules = ("student/classifier/.*: rate=1", "(?!student/classifier/).*: frozen")
    # The vectors are kept, so a step takes milliseconds. The published 5 epochs at 1e-3 left the classifier of a MiniLM
    # half trained (README.md, results).
    config.train.update({"total_epochs": 20.0, "at_least_steps": 1000})
    if task == "demo":
        config.data.update({"max_length": 18, "batch_size": 64, "num_length_buckets": 2, "bucket_window": 16})
        config.teacher.config = f"configs/supcl_seq/contrast.py:demo{',tiny' * ('tiny' in words)}"
    if "tiny" in words:
        config.data.update({"demo_num_train": 512, "demo_num_dev": 128, "max_length": 18, "num_length_buckets": 1})
        config.data.update({"batch_size": 32, "eval_batch_size": 32})
        config.train.update({"total_epochs": 2.0, "at_least_steps": 0, "log_every_steps": 16})
    return config
