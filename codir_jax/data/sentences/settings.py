"""The `data` section of a config that reads sentences, one a line, and what in it cannot be."""

from __future__ import annotations

from codir_jax.data.stream import settings as stream_settings
from codir_jax.processes.user_error import UserError


def default_config():
    """Returns the `data` section: that of a stream, and the noise."""
    config = stream_settings.default_config()
    del config.eval_rows, config.eval_length, config.keep_empty_lines
    config.name = "sentences"
    # Characters that close a sentence within a line where a word ends with one, such as ".?!"; empty: a line is a
    # sentence. "Mr." closes one too.
    config.sentence_ends = ""
    # Sentences of a batch.
    config.batch_size = 32
    # Tokens of a sentence, its end included; longer ones are left out of all splits, and drawn noise has none such.
    config.max_length = 41
    # Noise sentences for each real one, k; they are drawn anew in every step.
    config.num_noise = 8
    # The noise model: n-grams of the train split, and their discount (0: estimated).
    config.noise_order = 3
    config.noise_discount = 0.75
    return config


def for_stream(config):
    """Returns the section as `data.stream` reads it."""
    other = stream_settings.default_config()
    other.update({name: value for name, value in config.items() if name in other and name != "name"})
    return other


def check(config) -> None:
    """Refuses what contradicts itself, before a file is opened.

    Raises:
      UserError: with what was expected, what came and what to do.
    """
    stream_settings.check(for_stream(config))
    if config.max_length < 2:
        raise UserError(f"data.max_length is at least 2, a word and the end, got {config.max_length}")
    if config.num_noise < 0 or config.noise_order < 1:
        raise UserError(
            f"data.num_noise {config.num_noise} must be at least 0 and data.noise_order {config.noise_order} at least 1"
        )
    if not 0 <= config.noise_discount < 1:
        raise UserError(f"data.noise_discount is in [0, 1), got {config.noise_discount}; 0 estimates it")
