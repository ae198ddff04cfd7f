"""The `data` section of a config that reads a stream of tokens, and what in it cannot be."""

from __future__ import annotations

from codir_jax.processes.fields import defaults, faults, field, refuse
from codir_jax.processes.user_error import UserError

MAX_LENGTH, MAX_ROWS = 100_000, 10_000_000


FIELDS = {
    # Running text in its order, for language models that read from left to right; another is "corpus" (masked LMs).
    "name": field("stream", "running text in its order", words=("stream",)),
    # Comma-separated: PATH_OR_GLOB_OR_FOLDER (.txt, .jsonl, either with .gz), tfds:NAME[:FIELD[:SPLIT]] or demo:NUMBER
    # (embedded documents). The files of an entry are read in the order of their names.
    "sources": field("", "files, folders, globs or tfds:NAME:FIELD, comma separated"),
    # The same way. Empty: the last dev_percent (test_percent) of the lines of `sources`, test last.
    "dev_sources": field("", "held-out sources to judge by"),
    "test_sources": field("", "held-out sources to test by"),
    "dev_percent": field(5.0, "lines held out where dev_sources is empty", at_least=0, below=100),
    "test_percent": field(5.0, "lines held out where test_sources is empty; 0: no test split", at_least=0, below=100),
    "text_field": field("text", "field of .jsonl lines that holds the text"),
    # As published perplexities of WikiText count it.
    "keep_empty_lines": field(False, "whether an empty line is an end-of-line token too"),
    "tfds_data_dir": field("", "where prepared TFDS data sets are; empty: TFDS's own default", binds=False),
    # A folder that all processes see; empty: a folder in the user's cache.
    "cache_dir": field("", "folder where tokens are kept", binds=False),
    # Over all processes and devices; each goes on from batch to batch.
    "batch_size": field(20, "rows that the train stream is cut into", at_least=1, at_most=MAX_ROWS),
    # The gradient goes back so far, the state goes on.
    "max_length": field(20, "tokens of a row in a train batch", at_least=1, at_most=MAX_LENGTH),
    # 1: each token is scored with all the text before it; more is faster, and a little worse where a row begins.
    "eval_rows": field(1, "rows that a held-out stream is cut into", at_least=1, at_most=MAX_ROWS),
    # The scores do not depend on it.
    "eval_length": field(256, "tokens of a row in an evaluation batch", at_least=1, at_most=MAX_LENGTH),
    "num_workers": field(0, "processes that tokenise; 0: one a core", at_least=0, at_most=4096, binds=False),
}


def default_config():
    """Returns the `data` section for `data.name` "stream": an ml_collections ConfigDict."""
    from ml_collections import ConfigDict

    return ConfigDict(defaults(FIELDS))


def check(config) -> None:
    """Refuses what contradicts itself, before a file is opened.

    Raises:
      UserError: with what was expected, what came and what to do.
    """
    refuse(faults(FIELDS, config, "data."))
    if not config.sources.strip():
        raise UserError("no text: set data.sources to files, folders, globs or tfds:NAME:FIELD, comma separated")
    if not config.dev_sources.strip() and not config.dev_percent > 0:
        raise UserError(
            f"data.dev_percent is {config.dev_percent} and data.dev_sources is empty; a run is judged on held-out "
            "text, so give it some lines, or files of their own as data.dev_sources"
        )
    held_out = sum(config[f"{split}_percent"] for split in ("dev", "test") if not config[f"{split}_sources"])
    if held_out >= 100:
        raise UserError(
            f"data.dev_percent {config.dev_percent} and data.test_percent {config.test_percent} leave no text to train "
            "on; together they must be below 100"
        )
