"""A sentence encoder from pairs of sentences: PairSupCon, its parts, and the losses it is compared with.

    codir train --config=configs/pair_supcon/train.py:own --config.student.path=bert-base-uncased \\
        --config.data.train_path=nli.tsv --config.data.dev_path=sts_dev.tsv --workdir=runs/encoder

Arguments, comma separated: data (own, demo), an arm, `released` and `tiny`. Arms: `joint` (default: L_C and L_ID with
hard negatives), `classify` (L_C only), `instance` (L_ID with hard negatives only), `orig` (L_ID only, all negatives
alike), `ranking` (entailed pair, contradiction as hard negative, all others of the batch: the ranking loss of
sentence-transformers), `twins` (single texts, two dropout masks: unsupervised SimCSE). `released` leaves equal texts
among the negatives, as the published code does. `own` reads your files, see codir_jax/data/sets/sentence_pairs.py;
`demo` trains a small encoder from scratch on embedded pairs; `tiny` is a test of the machinery.

The recipe is the paper's (batch 1024, 3 epochs, Adam at 5e-6, heads at 100 times that, no decay, warm-up or clipping).
A batch that does not fit into memory: train.num_microbatches=8 computes it in parts, with the same gradient.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import pair_supcon
from codir_jax.stage import config as stage_config

DATA = ("own", "demo")
# Arm -> fields of the objective, layout of the train rows.
ARMS = {
    "joint": ({}, "pairs"),
    "classify": ({"instance_weight": 0.0}, "pairs"),
    "instance": ({"classify_weight": 0.0}, "pairs"),
    "orig": ({"classify_weight": 0.0, "instance": "orig"}, "pairs"),
    "ranking": ({"classify_weight": 0.0, "instance": "ranking", "projection_dim": 0}, "triplets"),
    "twins": ({"classify_weight": 0.0, "instance": "ranking", "projection_dim": 0}, "sentences"),
}


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "own", "own,ranking" or "demo,joint,tiny"; without data, own (tiny: demo)."""
    words = parse_arguments(argument, (*DATA, *ARMS, "released", "tiny"), DATA, ARMS)
    data = next((word for word in words if word in DATA), "demo" if "tiny" in words else "own")
    arm, layout = ARMS[next((word for word in words if word in ARMS), "joint")]
    objective = pair_supcon.default_config("released" if "released" in words else "paper")
    objective.update(arm)
    config = stage_config.default_config(objective, "sentence_embedding")
    config.data.update({"layout": layout, "max_length": 32, "batch_size": 1024})
    config.student.init = "pretrained"  # student.path names the encoder
    config.optimizer.update({"learning_rate": 5e-6, "weight_decay": 0.0, "clip_norm": 0.0, "schedule": "constant"})
    config.optimizer.update({"warmup_percent": 0.0})
    has_heads = objective.classify_weight > 0 or objective.projection_dim > 0
    if has_heads:
        config.optimizer.rules = ("student/.*: rate=1", "(?!student/).*: rate=100")
    config.train.total_epochs = 3.0
    if data == "own":
        config.data.name = "sentence_pairs"
    else:
        demo(config)
    if "tiny" in words:
        tiny(config)
    return config


def demo(config: ConfigDict) -> None:
    """A small encoder from scratch on the embedded pairs, in about a minute on two CPU cores."""
    config.data.update({"name": "demo_pairs", "batch_size": 128, "num_length_buckets": 2, "bucket_window": 16})
    config.student.update({"init": "random", "num_layers": 2, "hidden_size": 128, "num_heads": 4})
    config.student.update({"intermediate_size": 512, "initializer_range": 0.04})
    # From scratch the encoder needs the rate that the paper's heads have.
    config.optimizer.update({"learning_rate": 5e-4, "rules": (), "schedule": "linear", "warmup_percent": 10.0})


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"demo_num_triplets": 256, "demo_num_scored": 64, "num_length_buckets": 1})
    config.data.update({"batch_size": 32, "eval_batch_size": 32})
    config.student.update({"num_layers": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64})
    config.train.update({"total_epochs": 2.0, "log_every_steps": 4})
