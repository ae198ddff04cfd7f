"""The `data` section of a config that reads a corpus, and what in it cannot be."""

from __future__ import annotations

from codir_jax.processes.fields import defaults, faults, field, refuse
from codir_jax.processes.user_error import UserError

MAX_LENGTH, MAX_ROWS = 100_000, 10_000_000
BOUNDARIES = ("file", "blank_line")


FIELDS = {
    # Running text for pre-training; other names are the data sets of data/settings.py.
    "name": field("corpus", "running text in chunks", words=("corpus",)),
    # Comma-separated: PATH_OR_GLOB_OR_FOLDER[@WEIGHT] (.txt, .jsonl, either with .gz) or
    # tfds:NAME[:FIELD[:SPLIT]][@WEIGHT] or demo:NUMBER (embedded documents),
    # as "books/*.txt@2,tfds:wikipedia/20230601.en:text".
    # A source of weight 2 is gone through twice an epoch, one of weight 0.5 half.
    "sources": field("", "files, folders, globs or tfds:NAME:FIELD, comma separated"),
    # The same way; empty: dev_percent of the documents of `sources`, one document at least.
    "dev_sources": field("", "held-out sources"),
    "dev_percent": field(1.0, "documents held out where dev_sources is empty", at_least=0, below=100),
    # Evenly spread over the held-out documents.
    "max_dev_chunks": field(4096, "chunks that an evaluation reads at most", at_least=1, at_most=1_000_000_000),
    "text_field": field("text", "field of .jsonl lines that holds the text"),
    # "file" (a file is a document) or "blank_line".
    "document_boundary": field("file", "what ends a document of .txt", words=BOUNDARIES),
    "tfds_data_dir": field("", "where prepared TFDS data sets are; empty: TFDS's own default", binds=False),
    # A folder that all processes see; empty: a folder in the user's cache.
    "cache_dir": field("", "folder where token shards are kept", binds=False),
    "max_length": field(128, "tokens of a chunk at most, the two specials included", at_least=8, at_most=MAX_LENGTH),
    # Over all processes and devices.
    "batch_size": field(256, "chunks of a training batch", at_least=1, at_most=MAX_ROWS),
    "eval_batch_size": field(256, "chunks of an evaluation batch", at_least=1, at_most=MAX_ROWS),
    "mask_rate": field(0.15, "share of the tokens that are masked and predicted", above=0, below=1),
    "whole_word_masking": field(False, "all pieces of a word are masked or none"),
    # They come into a batch together, as hard negatives of each other; 1: none do.
    "chunks_per_document": field(1, "neighbouring chunks of a document in a batch", at_least=1, at_most=MAX_ROWS),
    "num_workers": field(0, "processes that tokenise; 0: one a core", at_least=0, at_most=4096, binds=False),
}


def default_config():
    """Returns the `data` section for `data.name` "corpus": an ml_collections ConfigDict."""
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
    if config.batch_size % config.chunks_per_document:
        lower = config.batch_size - config.batch_size % config.chunks_per_document
        raise UserError(
            f"data.batch_size {config.batch_size} is not divisible by data.chunks_per_document "
            f"{config.chunks_per_document}; use {lower or config.chunks_per_document} or "
            f"{lower + config.chunks_per_document}"
        )
    if not config.dev_sources.strip() and not config.dev_percent:
        raise UserError(
            "data.dev_percent is 0 and data.dev_sources is empty; a run is judged on held-out documents, "
            "so give it some, or files of their own as data.dev_sources"
        )
