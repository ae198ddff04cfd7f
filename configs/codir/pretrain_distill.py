"""CoDIR at pre-training: compress a masked language model into a student of half its depth, for any task.

    codir train --config=configs/codir/pretrain_distill.py:small --config.data.sources='books/*.txt' \\
        --config.teacher.path=runs/mlm_teacher --workdir=runs/mlm_student
    codir train --config=configs/codir/finetune_teacher.py:sst2 --config.student.path=runs/mlm_student \\
        --workdir=runs/sst2

Arguments, comma separated: a size and a method.
Sizes: `small` (default; a corpus of some hundred novels, one accelerator: ten epochs of 6 -> 3 layers x 384 are about
a minute on an H100 by `codir plan --examples=128000 --teacher=minilm --config.data.sources=...`, an estimate),
`roberta_base` (roberta-base, 12 -> 6 layers, on Wikipedia and books), `tiny` (under a minute on a laptop, on embedded
text; its teacher is made by `pretrain_teacher.py:tiny`).
`roberta_base`: 30,000 steps of 2,048 x 512 tokens, about 1 hour on a v5e-64 and 1.5 on 8 H100, 8.9 and 61 GB each, by
`codir plan ...:roberta_base --examples=12000000 --teacher=roberta-base --devices=v5e-64` (40 % of the published peaks,
evaluation aside: an estimate, not a run). On every host (launch/README.md):

    codir train --config=configs/codir/pretrain_distill.py:roberta_base --workdir=/shared/runs/mlm_student

TFDS prepares both sets once, in an environment of its own: `pip install tensorflow tensorflow-datasets apache-beam
mwxml mwparserfromhell`, `tfds build wikipedia/20230601.en pg19 --file_format=array_record --data_dir=DIR`. The run
finds them by `--config.data.tfds_data_dir=DIR`.
Methods: `codir` (default); `best` (ours: L2 on the hidden states of every token, then masked LM and soft targets in the
last quarter of the steps; the evidence is in README.md); the baselines `masked_lm` (no teacher in the loss), `distill`
(+ soft targets), `l2` (+ soft targets + L2 of every token, weight 64) and `relations` (+ soft targets + MiniLMv2).
`tokens` is the contrast asked of tokens, with the teacher's labels. All start from the same teacher layers.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import codir, distill, masked_lm, relations
from codir_jax.stage import config as stage_config

SIZES = ("small", "roberta_base", "tiny")
METHODS = ("codir", "best", "masked_lm", "distill", "l2", "relations", "tokens")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "small", "roberta_base" or "tiny,l2"."""
    words = parse_arguments(argument, (*SIZES, *METHODS), SIZES, METHODS)
    size = next((word for word in words if word in SIZES), "small")
    method = next((word for word in words if word in METHODS), "codir")
    config = stage_config.default_config(objective_config(method), "masked_lm")
    config.data.chunks_per_document = 4  # a chunk's neighbours are its hard negatives
    config.optimizer.update({"learning_rate": 5e-4, "warmup_percent": 5.0})
    config.train.update({"eval_every_epochs": -1.0, "eval_every_percent": 10.0})
    config.train.update({"checkpoint_every_epochs": -1.0, "checkpoint_every_percent": 5.0})
    if size == "small":
        config.train.total_epochs = 10.0
    elif size == "roberta_base":
        roberta_base(config)
    else:
        tiny(config)
    return config


def roberta_base(config: ConfigDict) -> None:
    """12 -> 6 layers on Wikipedia and PG-19."""
    config.teacher.update({"path": "roberta-base", "dtype": "bfloat16"})
    config.student.dtype = "bfloat16"
    config.data.sources = "tfds:wikipedia/20230601.en:text,tfds:pg19:book_text"
    config.data.update({"max_length": 512, "batch_size": 2048})
    config.optimizer.learning_rate = 4e-4
    config.train.update({"total_epochs": -1.0, "total_steps": 30_000})


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"sources": "demo:200", "dev_percent": 10.0, "max_length": 32})
    config.data.update({"batch_size": 32, "eval_batch_size": 32})
    config.teacher.update({"allow_weak": True, "config": "configs/codir/pretrain_teacher.py:tiny"})
    config.optimizer.learning_rate = 2e-3
    config.train.update({"total_epochs": 2.0, "log_every_steps": 10})


def objective_config(method: str) -> ConfigDict:
    """The objective of a method's name."""
    if method == "codir":
        return codir.default_config("pretrain")
    if method == "tokens":
        config = codir.default_config("pretrain")
        config.update({"contrastive_weight": 8.0, "layer_aggregation": "per_layer"})
        config.contrast.update({"unit": "token", "target": "teacher", "space": "centred"})
        return config
    if method in ("masked_lm", "relations"):
        return {"masked_lm": masked_lm, "relations": relations}[method].default_config()
    config = distill.default_config("best" if method == "best" else "plain")
    if method == "l2":
        config.update({"hidden_loss": "l2", "hidden_unit": "token", "hidden_weight": 64.0})
    return config
