"""Pre-train a masked language model on running text, or go on with one: the teacher of `pretrain_distill.py`.

    codir tokenizer --sources='books/*.txt' --vocab_size=8192 --output=runs/tokenizer
    codir train --config=configs/codir/pretrain_teacher.py:small --config.data.sources='books/*.txt' \\
        --config.tokenizer_path=runs/tokenizer --workdir=runs/mlm_teacher

Arguments, one of:
`small` (default): a BERT of 6 layers x 384 from scratch, for a corpus of some hundred novels on one accelerator: 20
epochs, about two minutes on an H100 by `codir plan` (128,000 chunks; 40 % of the published peak, evaluation aside: an
estimate). On two CPU cores rather go on with a small model that is there: MiniLM, 2,000 steps of 32 x 64 tokens, took
25 minutes (`--config.student.init=pretrained --config.student.path=... --config.student.num_layers=0`, measured);
`roberta_base`: roberta-base goes on pre-training on a field of your own (domain adaptation), one GPU host or TPU slice:
12,500 steps of 1,024 x 512 tokens, about 14 minutes on a v5e-64 and 21 on 8 H100 by `codir plan ...:roberta_base
--examples=12000000 --teacher=roberta-base` (an estimate too, not a run);

    codir train --config=configs/codir/pretrain_teacher.py:roberta_base --config.data.sources='field/*.jsonl.gz' \\
        --workdir=/shared/runs/mlm_teacher   # on every host: see launch/README.md

`tiny`: under a minute on a laptop (17 CPU seconds, measured), on embedded text.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import masked_lm
from codir_jax.stage import config as stage_config

SIZES = ("small", "roberta_base", "tiny")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, one of SIZES."""
    size = (parse_arguments(argument, SIZES, SIZES) or ["small"])[-1]
    config = stage_config.default_config(masked_lm.default_config(), "masked_lm")
    config.student.init = "random"
    config.optimizer.update({"learning_rate": 5e-4, "warmup_percent": 5.0})
    config.train.update({"eval_every_epochs": -1.0, "eval_every_percent": 10.0})
    config.train.update({"checkpoint_every_epochs": -1.0, "checkpoint_every_percent": 5.0})
    if size == "small":
        config.student.update({"num_layers": 6, "hidden_size": 384, "num_heads": 6, "intermediate_size": 1536})
        config.train.total_epochs = 20.0
    elif size == "roberta_base":
        config.student.update({"init": "pretrained", "path": "roberta-base", "dtype": "bfloat16"})
        config.data.update({"max_length": 512, "batch_size": 1024})
        config.optimizer.learning_rate = 1e-4
        config.train.update({"total_epochs": -1.0, "total_steps": 12_500})
    else:
        tiny(config)
    return config


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"sources": "demo:200", "dev_percent": 10.0, "max_length": 32})
    config.data.update({"batch_size": 32, "eval_batch_size": 32})
    config.student.update({"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64})
    config.optimizer.learning_rate = 2e-3
    config.train.update({"total_epochs": 4.0, "log_every_steps": 10})
