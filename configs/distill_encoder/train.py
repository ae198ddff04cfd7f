"""A sentence encoder at half its depth: distilled from its vectors, on texts without labels.

    codir train --config=configs/distill_encoder/train.py:own --config.teacher.path=all-MiniLM-L6-v2 \\
        --config.data.train_path=texts.txt --config.data.dev_path=sts_dev.tsv --workdir=runs/student

Arguments, comma separated: data (own, demo), an arm and `tiny`. Arms: `vectors` (default: the student's come near the
teacher's), `similarity` (which texts the teacher finds near), `both`, `codir` (vectors, and the contrastive term on
hidden layers). README.md tells why that default.
`own` reads your texts: a .txt with one a line, or a column of a table; pairs and triplets give their texts too. `demo`
distils a small encoder that is trained on embedded pairs first; `tiny` is a test of the machinery.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import codir, distill
from codir_jax.stage import config as stage_config

DATA = ("own", "demo")
# Arm -> weights of the vectors and of the similarities.
ARMS = {"vectors": (1.0, 0.0), "similarity": (0.0, 1.0), "both": (1.0, 1.0), "codir": (1.0, 0.0)}


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "own", "own,codir" or "demo,tiny"; without data, own (tiny: demo)."""
    words = parse_arguments(argument, (*DATA, *ARMS, "tiny"), DATA, ARMS)
    data = next((word for word in words if word in DATA), "demo" if "tiny" in words else "own")
    arm = next((word for word in words if word in ARMS), "vectors")
    objective = codir.default_config("encoder") if arm == "codir" else distill.default_config()
    objective.task_weight, objective.soft_target_weight = ARMS[arm]
    config = stage_config.default_config(objective, "sentence_embedding")
    config.data.update({"layout": "sentences", "max_length": 128, "batch_size": 128})
    # Half of the layers start from the teacher's, and the targets are dense: a rate as for fine-tuning.
    config.optimizer.update({"learning_rate": 1e-4, "schedule": "linear", "warmup_percent": 5.0})
    config.train.total_epochs = 3.0
    if data == "own":
        config.data.name = "sentence_pairs"
    else:
        demo(config, is_tiny="tiny" in words)
    if "tiny" in words:
        tiny(config)
    return config


def demo(config: ConfigDict, is_tiny: bool) -> None:
    """The embedded sentences, and an encoder of four layers that is trained on their pairs first."""
    config.data.update({"name": "demo_pairs", "max_length": 32, "num_length_buckets": 2, "bucket_window": 16})
    config.teacher.config = "configs/pair_supcon/train.py:demo" + ",tiny" * is_tiny
    config.optimizer.learning_rate = 5e-4


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"demo_num_triplets": 256, "demo_num_scored": 64, "num_length_buckets": 1})
    config.data.update({"batch_size": 32, "eval_batch_size": 32})
    config.objective.similarity_queue_size = 64
    if "negatives" in config.objective:
        config.objective.negatives.queue_size = 64
    config.teacher.allow_weak = True
    config.train.update({"total_epochs": 2.0, "log_every_steps": 4})
