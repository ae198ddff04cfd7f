"""Meta-KD, step 2: a small student for one domain, in two stages.

    codir train --config=configs/meta_kd/student.py:own,intermediate --config.teacher.path=runs/teacher \\
        --config.data.train_path=runs/weighed/books/train.jsonl --config.data.dev_path=runs/weighed/books/dev.jsonl \\
        --workdir=runs/books_inside
    codir train --config=configs/meta_kd/student.py:own,prediction --config.teacher.path=runs/teacher \\
        --config.student.path=runs/books_inside (data as above) --workdir=runs/books

Arguments, comma separated: `own` (default) or `demo`, `intermediate` (default: the teacher's inside) or `prediction`
(its answers), an arm, and `tiny`. Arms of the first: `paper` (default), `released` (means take padding in), `mixed`
(every example counts 1, no domain term), and the ablations `no_weights`, `no_domain_term`, `no_lambda`. Of the second:
`contrast` (ours: CoDIR's term beside the answers, negatives of the other class in the same domain). The epochs are
fixed: a dev set of one domain is too small to choose by.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.jobs.weigh import COLUMNS
from codir_jax.objectives import codir, distill, meta_distill
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config

DATA, STAGES = ("own", "demo"), ("intermediate", "prediction")
ARMS = ("paper", "released", "mixed", "no_weights", "no_domain_term", "no_lambda", "contrast")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "own,intermediate", "own,prediction" or "demo,intermediate,tiny"."""
    words = parse_arguments(argument, (*DATA, *ARMS, *STAGES, "tiny"), DATA, ARMS, STAGES)
    arm = next((word for word in words if word in ARMS), "paper")
    is_prediction = "prediction" in words
    if arm != "paper" and (arm == "contrast") != is_prediction:
        raise UserError(f"{arm!r} is an arm of {'intermediate' if is_prediction else 'prediction'}, the other stage")
    config = stage_config.default_config(_prediction(arm) if is_prediction else objective_config(arm))
    config.data.update({"name": "text_classification", "columns": COLUMNS})
    config.optimizer.update({"learning_rate": 3e-5 if is_prediction else 5e-5, "warmup_percent": 10.0})
    config.train.total_epochs = 3.0 if is_prediction else 10.0
    config.train.update({"eval_every_epochs": -1.0, "eval_every_percent": 100.0})
    if is_prediction:
        config.student.init = "pretrained"
    else:  # raw scores and states of every token are many
        config.teacher.cache_dtype = "bfloat16"
    if "demo" in words or "tiny" in words:
        config.data.name = "demo_domains"
        config.data.update({"max_length": 18, "batch_size": 64, "num_length_buckets": 1})
        config.optimizer.learning_rate = 1e-3
        config.train.total_epochs = 2.0
    if "tiny" in words:
        config.data.update({"domains_num_train": 256, "domains_num_dev": 64})
        config.data.update({"batch_size": 32, "eval_batch_size": 32})
        config.train.update({"total_epochs": 1.0, "log_every_steps": 4})
        config.teacher.update({"allow_weak": True, "config": "configs/meta_kd/teacher.py:demo,tiny"})
    return config


def objective_config(arm: str) -> ConfigDict:
    """The objective of an arm of the intermediate stage."""
    config = meta_distill.default_config("released" if arm == "released" else "paper")
    if arm in ("mixed", "no_weights", "no_lambda"):
        config.is_weighted = False
    if arm in ("mixed", "no_lambda"):
        config.uses_difficulty = False
    if arm in ("mixed", "no_domain_term"):
        config.domain_weight = 0.0
    return config


def _prediction(arm: str) -> ConfigDict:
    config = codir.default_config() if arm == "contrast" else distill.default_config()
    config.update({"task_weight": 0.0, "soft_target_weight": 1.0, "soft_target_temperature": 1.0})
    return config
