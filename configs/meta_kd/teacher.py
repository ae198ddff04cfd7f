"""Meta-KD, step 1: one teacher for all domains.

    codir weigh --model=bert-base-uncased --train=train.tsv --dev=dev.tsv --domain_column=domain --output=runs/weighed
    codir train --config=configs/meta_kd/teacher.py:own --config.data.train_path=runs/weighed/train.jsonl \\
        --config.data.dev_path=runs/weighed/dev.jsonl --config.student.path=bert-base-uncased --workdir=runs/teacher

Arguments, comma separated: `own` (default) or `demo`, an arm, and `tiny`. Arms: `paper` (default), `released` (domains
permuted within a batch), and the ablations `mixed` (weights 1, no domain term), `no_weights`, `no_corruption`,
`reversal` (the true domain through a reversed gradient that grows, as in DANN).
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.jobs.weigh import COLUMNS
from codir_jax.objectives import meta_teacher
from codir_jax.stage import config as stage_config

DATA = ("own", "demo")
ARMS = ("paper", "released", "mixed", "no_weights", "no_corruption", "reversal")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "own", "own,reversal" or "demo,tiny"."""
    words = parse_arguments(argument, (*DATA, *ARMS, "tiny"), DATA, ARMS)
    arm = next((word for word in words if word in ARMS), "paper")
    config = stage_config.default_config(objective_config(arm))
    config.data.update({"name": "text_classification", "columns": COLUMNS})
    config.student.init = "pretrained"
    config.optimizer.update({"learning_rate": 2e-5, "warmup_percent": 10.0})
    config.train.total_epochs = 3.0
    if "demo" in words or "tiny" in words:
        config.data.name = "demo_domains"
        config.data.update({"max_length": 18, "batch_size": 64, "num_length_buckets": 2, "bucket_window": 16})
        config.student.update(
            {"init": "random", "num_layers": 4, "hidden_size": 128, "num_heads": 4, "intermediate_size": 512}
        )
        config.student.update({"initializer_range": 0.04, "dropout": 0.0})  # it sees each sentence only a few times
        config.optimizer.learning_rate = 7e-4
        config.train.total_epochs = 6.0
    if "tiny" in words:
        config.data.update({"domains_num_train": 256, "domains_num_dev": 64, "num_length_buckets": 1})
        config.data.update({"batch_size": 32, "eval_batch_size": 32})
        config.student.update({"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64})
        config.train.update({"total_epochs": 1.0, "log_every_steps": 4})
    return config


def objective_config(arm: str) -> ConfigDict:
    """The objective of an arm's name."""
    config = meta_teacher.default_config("released" if arm == "released" else "paper")
    if arm in ("mixed", "no_weights"):
        config.is_weighted = False
    if arm in ("mixed", "no_corruption"):
        config.corruption = "none"
    if arm == "reversal":
        config.corruption = "reversal"
    return config
