"""The `data` section of a config that reads labelled texts: what every data set reads, and the fields of each."""

from __future__ import annotations

from codir_jax.data import class_weights
from codir_jax.data.sets import contract
from codir_jax.data.table_columns import named_columns
from codir_jax.processes.user_error import UserError


def default_config():
    """Returns the section: an ml_collections ConfigDict, one comment a field, those of all data sets included.

    Raises:
      ValueError: a field is defined twice.
    """
    from ml_collections import ConfigDict

    config = ConfigDict()
    # A data set of data/sets: a GLUE task (cola sst2 mrpc stsb qqp mnli qnli rte wnli ax), "text_classification" (own
    # files) or "demo".
    config.name = "cola"
    # Texts without labels that join the train split: .txt (one a line), .tsv, .csv or .jsonl. Any data set takes them.
    config.unlabelled_path = ""
    # Column names in own files and unlabelled ones; text_pair_column is empty for single texts.
    config.text_column = "sentence"
    config.text_pair_column = ""
    # Further columns of these files that join a batch, comma separated: NAME=COLUMN, or NAME where both are the same,
    # as "domain_ids=domain,example_weights=weight". One of numbers becomes float32, one of other texts int32 class
    # numbers, its texts sorted. Optional in dev and test.
    config.columns = ""
    # Tokens of an example at most, specials included; longer ones are truncated and counted.
    config.max_length = 128
    # Padded lengths that batches may have at most, chosen from the data to pad least; each is compiled once, and there
    # are fewer where an epoch has few batches: one for 16 of them.
    config.num_length_buckets = 8
    # Examples of a training batch over all processes and devices.
    config.batch_size = 32
    # Examples of an evaluation batch over all processes and devices.
    config.eval_batch_size = 128
    # Batches whose examples are sorted by length together; 1: no sorting, more padding.
    config.bucket_window = 32
    # Where the tokens of large train files are kept, a folder that all processes see; empty: one in the user's cache.
    config.cache_dir = ""
    # Labelled train examples to use, drawn by the seed of the run; 0: all.
    config.num_train_examples = 0
    # Of classes that are rare: "balanced" weighs the task loss of each by 1 / its share, as NAME=WEIGHT,... says, or ""
    # for all alike; the mean weight of a train example is 1.
    config.class_weights = ""
    of_sets = contract.default_config()
    if twice := sorted(set(of_sets) & set(config)):
        raise ValueError(f"data sets define fields that every set has: {', '.join(twice)}")
    config.update(of_sets)
    return config


def check(options) -> None:
    """Refuses what contradicts itself, before a file is opened.

    Raises:
      UserError: with what was expected, what came and what to do.
    """
    contract.check(options)
    named_columns(options)
    for field in ("batch_size", "eval_batch_size", "max_length", "bucket_window", "num_length_buckets"):
        if options[field] < 1:
            raise UserError(f"data.{field} must be >= 1, got {options[field]}")
    class_weights.check(options.class_weights)
    if options.num_train_examples < 0:
        raise UserError(f"data.num_train_examples must be >= 0 (0: all), got {options.num_train_examples}")
