"""Stage 1: fine-tune the teacher (or any model) on a task.

    codir train --config=configs/codir/finetune_teacher.py:sst2 \\
        --config.student.path=roberta-base --workdir=runs/teacher

Arguments, comma separated: a task (cola sst2 mrpc stsb qqp mnli qnli rte wnli, own, demo) and `tiny`.
`own` reads your files (data.train_path, data.dev_path); `demo` trains a small model from scratch on the embedded task.
`tiny` is a minute on a laptop: the demo task, a two-layer model, one epoch.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.data.sets.glue import TRAINABLE_TASKS
from codir_jax.objectives import finetune
from codir_jax.stage import config as stage_config

TASKS = (*TRAINABLE_TASKS, "own", "demo")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "sst2" or "demo,tiny"; without a task, cola."""
    words = parse_arguments(argument, (*TASKS, "tiny"), TASKS)
    tasks = [word for word in words if word in TASKS] or ["demo" if "tiny" in words else "cola"]
    config = stage_config.default_config(finetune.default_config())
    config.data.name = "text_classification" if tasks[-1] == "own" else tasks[-1]
    config.student.init = "pretrained"  # student.path names the model
    config.optimizer.update({"learning_rate": 3e-5, "of_width": 768})
    # Three epochs of a small table would leave the head half trained, and its student better than it.
    config.train.update({"total_epochs": 3.0, "at_least_steps": 600})
    if tasks[-1] == "demo":
        demo_teacher(config)
    if "tiny" in words:
        tiny(config)
    return config


def demo_teacher(config: ConfigDict) -> None:
    """A small BERT from scratch on the embedded task; sizes that learn it in about two minutes on two CPU cores."""
    config.student.init = "random"
    config.student.update({"num_layers": 4, "hidden_size": 128, "num_heads": 4, "intermediate_size": 512})
    config.student.update({"initializer_range": 0.04, "dropout": 0.0})  # it sees each sentence only a few times
    config.data.update({"max_length": 18, "batch_size": 64, "num_length_buckets": 2, "bucket_window": 16})
    config.optimizer.update({"learning_rate": 7e-4, "of_width": 0, "warmup_percent": 10.0})
    config.train.update({"total_epochs": 6.0, "at_least_steps": 0})


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"demo_num_train": 512, "demo_num_dev": 128, "max_length": 18, "num_length_buckets": 1})
    config.student.update({"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64})
    config.train.update({"total_epochs": 1.0, "at_least_steps": 0, "log_every_steps": 4})
