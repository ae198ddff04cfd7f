"""The `data` section of a config that reads a stream of tokens, and what in it cannot be."""

from __future__ import annotations

from codir_jax.processes.user_error import UserError


def default_config():
    """Returns the `data` section for `data.name` "stream": an ml_collections ConfigDict, one comment a field."""
    from ml_collections import ConfigDict

    config = ConfigDict()
    # Running text in its order, for language models that read from left to right; another is "corpus" (masked LMs).
    config.name = "stream"
    # Comma-separated: PATH_OR_GLOB_OR_FOLDER (.txt, .jsonl, either with .gz), tfds:NAME[:FIELD[:SPLIT]] or demo:NUMBER
    # (embedded documents). The files of an entry are read in the order of their names.
    config.sources = ""
    # Held-out sources, the same way. Empty: the last dev_percent (test_percent) of the lines of `sources`, test last.
    config.dev_sources = ""
    config.test_sources = ""
    config.dev_percent = 5.0
    config.test_percent = 5.0  # 0: no test split
    # Field of .jsonl lines that holds the text.
    config.text_field = "text"
    # Whether an empty line is an end-of-line token too, as published perplexities of WikiText count it.
    config.keep_empty_lines = False
    # Where prepared TFDS data sets are; empty: TFDS's own default.
    config.tfds_data_dir = ""
    # Where tokens are kept, a folder that all processes see; empty: a folder in the user's cache.
    config.cache_dir = ""
    # Rows that the train stream is cut into, over all processes and devices; each goes on from batch to batch.
    config.batch_size = 20
    # Tokens of a row in a train batch: the gradient goes back so far, the state goes on.
    config.max_length = 20
    # Rows that a held-out stream is cut into. 1: each token is scored with all the text before it; more is faster, and
    # a little worse where a row begins.
    config.eval_rows = 1
    # Tokens of a row in an evaluation batch; the scores do not depend on it.
    config.eval_length = 256
    # Processes that tokenise; 0: one a core.
    config.num_workers = 0
    return config


def check(config) -> None:
    """Refuses what contradicts itself, before a file is opened.

    Raises:
      UserError: with what was expected, what came and what to do.
    """
    if not config.sources.strip():
        raise UserError("no text: set data.sources to files, folders, globs or tfds:NAME:FIELD, comma separated")
    for name in ("batch_size", "max_length", "eval_rows", "eval_length"):
        if config[name] < 1:
            raise UserError(f"data.{name} is at least 1, got {config[name]}")
    if config.num_workers < 0:
        raise UserError(f"data.num_workers is at least 1, or 0 for one a core, got {config.num_workers}")
    if not config.dev_sources.strip() and not config.dev_percent > 0:
        raise UserError(
            f"data.dev_percent is {config.dev_percent} and data.dev_sources is empty; a run is judged on held-out "
            "text, so give it some lines, or files of their own as data.dev_sources"
        )
    held_out = sum(max(config[f"{split}_percent"], 0) for split in ("dev", "test") if not config[f"{split}_sources"])
    if config.test_percent < 0 or held_out >= 100:
        raise UserError(
            f"data.dev_percent {config.dev_percent} and data.test_percent {config.test_percent} leave no text to train "
            "on; together they must be below 100"
        )
