"""The `data` section of a config that reads sentences, one a line, and what in it cannot be."""

from __future__ import annotations

from codir_jax.data.stream import settings as stream_settings
from codir_jax.processes.fields import defaults, faults, field, refuse

_NOT_OF_SENTENCES = ("eval_rows", "eval_length", "keep_empty_lines")


# Those of a stream, and the noise.
FIELDS = {
    **{name: one for name, one in stream_settings.FIELDS.items() if name not in _NOT_OF_SENTENCES},
    "name": field("sentences", "the lines of running text, each a sentence", words=("sentences",)),
    # Such as ".?!", where a word ends with one; empty: a line is a sentence. "Mr." closes one too.
    "sentence_ends": field("", "characters that close a sentence within a line"),
    "batch_size": field(32, "sentences of a batch", at_least=1, at_most=stream_settings.MAX_ROWS),
    # Longer ones are left out of all splits, and drawn noise has none such.
    "max_length": field(
        41, "tokens of a sentence at most, its end included", at_least=2, at_most=stream_settings.MAX_LENGTH
    ),
    # They are drawn anew in every step.
    "num_noise": field(8, "k, noise sentences for each real one", at_least=0, at_most=100_000),
    # A score must choose the sentence among copies of it with other words (candidates.py).
    "num_lists": field(500, "sentences of a split chosen among copies; 0: none", at_least=0, at_most=1_000_000),
    # Of the train split.
    "noise_order": field(3, "n of the n-grams of the noise model", at_least=1, at_most=10),
    "noise_discount": field(0.75, "of the n-grams; 0: estimated", at_least=0, below=1),
}


def default_config():
    """Returns the section with its defaults, an ml_collections ConfigDict."""
    from ml_collections import ConfigDict

    return ConfigDict(defaults(FIELDS))


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
    refuse(faults(FIELDS, config, "data."))
    stream_settings.check(for_stream(config))
