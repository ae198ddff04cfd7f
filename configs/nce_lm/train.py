"""Train models that score whole sentences, by noise contrast or, as a control, by likelihood.

    codir tokenizer --kind=word --sources=train.txt --vocab_size=10000 --output=runs/words
    codir train --config=configs/nce_lm/train.py:bi_nce --config.tokenizer_path=runs/words \\
        --config.data.sources=train.txt --config.data.dev_sources=valid.txt --workdir=runs/bi_nce
    codir score --model=runs/bi_nce --input=sentences.txt

Arguments, one of (add `,tiny` for half a minute on a laptop, on embedded text, which tests the machinery only):
`bi_nce` (default): reads both sides, unnormalised, sentence NCE against a trigram model;
`bi_residual`: the same, on top of the trigram model's ln q;
`bi_mle`: reads both sides, pseudo-likelihood;
`uni_mle`: reads from left to right, likelihood: a true probability; as many parameters as the others.
"""

from ml_collections import ConfigDict

from codir_jax.config import parse_arguments
from codir_jax.objectives import sentence_likelihood, sentence_nce
from codir_jax.stage import config as stage_config

# Objective, reads both sides, unnormalised, residual; the rate, of three or four by a search (README.md).
ARMS = {
    "bi_nce": (sentence_nce, True, True, False, 1e-2),
    "bi_residual": (sentence_nce, True, True, True, 4e-3),
    "bi_mle": (sentence_likelihood, True, False, False, 1e-2),
    "uni_mle": (sentence_likelihood, False, False, False, 1e-2),
}


def get_config(argument: str = "") -> ConfigDict:
    """The config for `argument`, one of ARMS, "tiny", or both."""
    arguments = parse_arguments(argument, (*ARMS, "tiny"), ARMS)
    arm = next((one for one in arguments if one != "tiny"), "bi_nce")
    objective, is_two_sided, is_unnormalised, is_residual, rate = ARMS[arm]
    config = stage_config.default_config(objective.default_config(), "sentences")
    config.student.update({"init": "random", "family": "lstm", "initializer_range": 0.1})
    # Two layers one way have as many weights as one layer each way, but for the mixture of the two (8,192 weights).
    config.student.update({"num_layers": 1 if is_two_sided else 2, "hidden_size": 64, "embedding_size": 64})
    config.student.update({"bidirectional": is_two_sided, "unnormalised": is_unnormalised, "residual": is_residual})
    config.optimizer.update({"name": "adamw", "learning_rate": rate, "weight_decay": 0.0, "clip_norm": 5.0})
    config.train.update({"total_epochs": -1.0, "total_steps": 3000, "log_every_steps": 100})
    if "tiny" in arguments:
        tiny(config)
    return config


def tiny(config: ConfigDict) -> None:
    """Sizes for a test of the machinery, not of the method."""
    config.data.update({"sources": "demo:200", "sentence_ends": ".", "batch_size": 8, "max_length": 21, "num_noise": 4})
    config.student.update({"hidden_size": 16, "embedding_size": 16})
    config.train.update({"total_steps": 60, "log_every_steps": 20})
