"""Train a left-to-right LSTM by noise contrast with sampled words, in the place of the softmax over the vocabulary.

    codir train --config=configs/nce_lm/words.py --config.tokenizer_path=runs/words \\
        --config.data.sources=train.txt --config.data.dev_sources=valid.txt --workdir=runs/word_nce

Arguments: `nce` (default), `sampled`, the sampled softmax with the same noise, or `full`, the control with the softmax
over the vocabulary; then `tiny`. The model is the same; each has the optimizer and rate that were best for it of four
rates of Adam and one of SGD (README.md).
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import language_model, word_nce
from codir_jax.stage import config as stage_config

LOSSES = ("nce", "sampled", "full")


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`: "nce", "sampled" or "full", and "tiny"."""
    arguments = parse_arguments(argument, (*LOSSES, "tiny"), LOSSES)
    objective = language_model if "full" in arguments else word_nce
    config = stage_config.default_config(objective.default_config(), "language_model")
    if "sampled" in arguments:
        config.objective.loss = "sampled_softmax"
    config.data.update({"batch_size": 20, "max_length": 20})
    config.student.update({"init": "random", "family": "lstm", "num_layers": 2, "hidden_size": 200})
    config.student.update({"initializer_range": 0.1})
    # As configs/rnn_lm/train.py:small but for the schedule and, where words are sampled, Adam.
    name, rate = ("sgd", 1.0) if "full" in arguments else ("adamw", 4e-3)
    config.optimizer.update({"name": name, "learning_rate": rate, "weight_decay": 0.0, "clip_norm": 5.0})
    config.train.update({"total_epochs": 5.0, "log_every_steps": 200})
    if "tiny" in arguments:
        tiny(config)
    return config


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"sources": "demo:200", "batch_size": 16, "max_length": 16, "eval_length": 64})
    config.student.hidden_size = 32
    config.train.update({"total_epochs": 2.0, "log_every_steps": 20})
