"""The `data` section of a config that reads a corpus, and what in it cannot be."""

from __future__ import annotations

from codir_jax.processes.user_error import UserError

BOUNDARIES = ("file", "blank_line")


def default_config():
    """Returns the `data` section for `data.name` "corpus": an ml_collections ConfigDict, one comment a field."""
    from ml_collections import ConfigDict

    config = ConfigDict()
    # Running text for pre-training; other names are the data sets of data/settings.py.
    config.name = "corpus"
    # Comma-separated: PATH_OR_GLOB_OR_FOLDER[@WEIGHT] (.txt, .jsonl, either with .gz) or
    # tfds:NAME[:FIELD[:SPLIT]][@WEIGHT] or demo:NUMBER (embedded documents),
    # as "books/*.txt@2,tfds:wikipedia/20230601.en:text".
    # A source of weight 2 is gone through twice an epoch, one of weight 0.5 half.
    config.sources = ""
    # Held-out sources, the same way; empty: dev_percent of the documents of `sources`.
    config.dev_sources = ""
    # Percent of the documents that are held out where dev_sources is empty; one document at least.
    config.dev_percent = 1.0
    # Chunks that an evaluation reads at most, evenly spread over the held-out documents.
    config.max_dev_chunks = 4096
    # Field of .jsonl lines that holds the text.
    config.text_field = "text"
    # What ends a document of .txt: "file" (a file is a document) or "blank_line".
    config.document_boundary = "file"
    # Where prepared TFDS data sets are; empty: TFDS's own default.
    config.tfds_data_dir = ""
    # Where token shards are kept, a folder that all processes see; empty: a folder in the user's cache.
    config.cache_dir = ""
    # Tokens of a chunk at most, the two specials included.
    config.max_length = 128
    # Chunks of a training batch over all processes and devices.
    config.batch_size = 256
    # Chunks of an evaluation batch over all processes and devices.
    config.eval_batch_size = 256
    # Share of the tokens that are masked and predicted.
    config.mask_rate = 0.15
    # Mask all pieces of a word or none.
    config.whole_word_masking = False
    # Neighbouring chunks of a document that come into a batch together, as hard negatives of each other; 1: none do.
    config.chunks_per_document = 1
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
    if config.document_boundary not in BOUNDARIES:
        raise UserError(f"data.document_boundary is one of {', '.join(BOUNDARIES)}, got {config.document_boundary!r}")
    if config.max_length < 8:
        raise UserError(f"data.max_length is at least 8 (two specials and some text), got {config.max_length}")
    for name in ("batch_size", "eval_batch_size", "chunks_per_document", "max_dev_chunks"):
        if config[name] < 1:
            raise UserError(f"data.{name} is at least 1, got {config[name]}")
    if config.num_workers < 0:
        raise UserError(f"data.num_workers is at least 1, or 0 for one a core, got {config.num_workers}")
    if config.batch_size % config.chunks_per_document:
        lower = config.batch_size - config.batch_size % config.chunks_per_document
        raise UserError(
            f"data.batch_size {config.batch_size} is not divisible by data.chunks_per_document "
            f"{config.chunks_per_document}; use {lower or config.chunks_per_document} or "
            f"{lower + config.chunks_per_document}"
        )
    if not 0 < config.mask_rate < 1:
        raise UserError(f"data.mask_rate is a share between 0 and 1, got {config.mask_rate}")
    if not config.dev_sources.strip() and not 0 < config.dev_percent < 100:
        raise UserError(
            f"data.dev_percent is between 0 and 100, got {config.dev_percent}; a run is judged on held-out documents, "
            "so give it some, or files of their own as data.dev_sources"
        )
