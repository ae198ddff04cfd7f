"""Stage 1 of SupCL-Seq: an encoder in which texts of one class lie together. Stage 2 is linear_head.py.

    codir train --config=configs/supcl_seq/contrast.py:cola --config.student.path=bert-base-uncased \\
        --workdir=runs/contrast

Arguments, comma separated: a task (cola sst2 mrpc qqp mnli qnli rte wnli, own, demo), an arm, `released` and `tiny`.
Arms: `supervised` (default), `self_supervised` (positives are the other views of a text only), and with a classifier
that is trained at once: `joint` (cross entropy + contrast), `augmented` (cross entropy on the same views, no contrast:
the control, with the same number of passes). `released` has the views that the published code runs. `demo` trains a
small model from scratch on the embedded task; `tiny` is a test of the machinery.

Dev is judged by a linear probe on the vectors, where no classifier is trained.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.data.sets.glue import TRAINABLE_TASKS
from codir_jax.objectives import supcl_seq
from codir_jax.stage import config as stage_config

TASKS = (*(task for task in TRAINABLE_TASKS if task != "stsb"), "own", "demo")  # stsb has numbers, not classes
ARMS = {
    "supervised": {},
    "self_supervised": {"supervised": False},
    "joint": {"task_weight": 1.0, "contrastive_weight": 0.5, "temperature": 0.3},
    "augmented": {"task_weight": 1.0, "contrastive_weight": 0.0},
}
CLASSIFIER = "student/classifier/.*"


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "cola", "own,self_supervised" or "demo,tiny"; without a task, cola."""
    words = parse_arguments(argument, (*TASKS, *ARMS, "released", "tiny"), TASKS, ARMS)
    task = next((word for word in words if word in TASKS), "demo" if "tiny" in words else "cola")
    objective = supcl_seq.default_config("released" if "released" in words else "paper")
    arm = next((word for word in words if word in ARMS), "supervised")
    objective.update(ARMS[arm])
    if arm == "supervised" and "released" not in words:
        objective.temperature = 0.3  # 0.05 in the paper: as good on SST-2, and on CoLA nothing is learned (README.md)
    config = stage_config.default_config(objective)
    config.data.name = "text_classification" if task == "own" else task
    config.data.batch_size = 128
    config.student.init = "pretrained"  # student.path names the encoder
    # The recipe of the published notebooks.
    config.optimizer.update({"learning_rate": 5e-5, "warmup_percent": -1.0, "warmup_steps": 50})
    if not objective.task_weight:  # of no use before stage 2
        config.optimizer.rules = (f"{CLASSIFIER}: frozen", f"(?!{CLASSIFIER.removesuffix('.*')}).*: rate=1")
    config.train.total_epochs = 3.0
    if task == "demo":
        demo(config)
    if "tiny" in words:
        tiny(config)
    return config


def demo(config: ConfigDict) -> None:
    """A small BERT from scratch on the embedded task: four classes would be easier to pull together than its two."""
    config.student.update({"init": "random", "num_layers": 4, "hidden_size": 128, "num_heads": 4})
    config.student.update({"intermediate_size": 512, "initializer_range": 0.04})
    config.data.update({"max_length": 18, "batch_size": 64, "num_length_buckets": 2, "bucket_window": 16})
    config.optimizer.update({"learning_rate": 7e-4, "warmup_steps": -1, "warmup_percent": 10.0})
    config.objective.temperature = 0.3
    # The contrast of a model from scratch stays at chance (README.md, results), after two epochs as after five.
    config.train.total_epochs = 2.0


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"demo_num_train": 512, "demo_num_dev": 128, "max_length": 18, "num_length_buckets": 1})
    config.data.update({"batch_size": 32, "eval_batch_size": 32})
    config.student.update({"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64})
    config.train.update({"total_epochs": 1.0, "log_every_steps": 4})
