"""Train an LSTM language model on running text: the model that is compressed, or a small one that it teaches.

    codir tokenizer --kind=word --sources=ptb.train.txt --vocab_size=10000 --output=runs/words
    codir train --config=configs/rnn_lm/train.py:small --config.tokenizer_path=runs/words \\
        --config.data.sources=ptb.train.txt --config.data.dev_sources=ptb.valid.txt \\
        --config.data.test_sources=ptb.test.txt --workdir=runs/small
    codir evaluate --model=runs/small --split=test
    codir train --config=configs/rnn_lm/train.py:small,distill --config.teacher.path=runs/small --workdir=runs/half ...

Arguments: one of (Zaremba et al., arXiv 1409.2329, for the Penn Treebank)
`small` (default): 2 layers of 200, 13 epochs, published test perplexity 114.5; see README.md beside this file for ours;
`medium`: 2 layers of 650, 39 epochs, published 82.7; for an accelerator;
`large`: 2 layers of 1500, 55 epochs, published 78.4; for an accelerator;
`tiny`: under a minute on a laptop, on embedded text; it tests the machinery, not the method;
and `distill`: half of the units, from scratch, taught by the model in `teacher.path`.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import language_distill, language_model
from codir_jax.stage import config as stage_config

# Units, tokens of a window, dropout, uniform start, epochs, whole epochs at rate 1, factor of the rate then, clipping.
SIZES = {
    "small": (200, 20, 0.0, 0.1, 13, 4, 1 / 2, 5.0),
    "medium": (650, 35, 0.5, 0.05, 39, 6, 1 / 1.2, 5.0),
    "large": (1500, 35, 0.65, 0.04, 55, 14, 1 / 1.15, 10.0),
}


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, e.g. "medium" or "small,distill"."""
    words = parse_arguments(argument, (*SIZES, "tiny", "distill"), (*SIZES, "tiny"))
    size = next((word for word in words if word in SIZES), "small")
    objective = language_distill if "distill" in words else language_model
    config = stage_config.default_config(objective.default_config(), "language_model")
    units, window, dropout, limit, epochs, at_full_rate, factor, clip_norm = SIZES[size]
    config.data.update({"batch_size": 20, "max_length": window})
    config.student.update({"init": "random", "family": "lstm", "num_layers": 2, "hidden_size": units})
    config.student.update({"dropout": dropout, "initializer_range": limit})
    config.optimizer.update({"name": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "clip_norm": clip_norm})
    config.optimizer.update({"warmup_percent": -1.0, "warmup_steps": 0, "schedule": "per_epoch"})
    # per_epoch counts from the end of the first epoch that has the factor.
    config.optimizer.update({"epoch_decay_start": at_full_rate - 1.0, "epoch_decay": factor})
    config.train.update({"total_epochs": float(epochs), "log_every_steps": 200})
    if "tiny" in words:
        tiny(config)
    if "distill" in words:
        config.student.hidden_size //= 2
    return config


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"sources": "demo:200", "batch_size": 16, "max_length": 16, "eval_length": 64})
    config.student.hidden_size = 32
    config.teacher.config = "configs/rnn_lm/train.py:tiny"
    config.train.update({"total_epochs": 2.0, "log_every_steps": 20})
