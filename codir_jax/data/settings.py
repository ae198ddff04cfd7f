"""The `data` section of a config that reads labelled texts: what every data set reads, and the fields of each."""

from __future__ import annotations

from codir_jax.data import class_weights
from codir_jax.data.sets import contract
from codir_jax.data.table_columns import parse_columns
from codir_jax.processes.fields import defaults, faults, field, refuse

MAX_LENGTH, MAX_ROWS = 1_000_000, 10_000_000


# What every set of labelled texts reads.
FIELDS = {
    # A data set of data/sets: a GLUE task (cola sst2 mrpc stsb qqp mnli qnli rte wnli ax), "text_classification" (own
    # files) or "demo".
    "name": field("cola", "a data set of codir_jax/data/sets"),
    # .txt (one a line), .tsv, .csv or .jsonl; they join the train split of any data set.
    "unlabelled_path": field("", "a file of texts without labels"),
    "text_column": field("sentence", "column of the texts in own files and unlabelled ones"),
    "text_pair_column": field("", "column of the second texts; empty: single texts"),
    # NAME=COLUMN, or NAME where both are the same, as "domain_ids=domain,example_weights=weight". One of numbers
    # becomes float32, one of other texts int32 class numbers, its texts sorted. Optional in dev and test.
    "columns": field("", "further columns that join a batch, comma separated", reads=parse_columns),
    # Longer ones are truncated and counted.
    "max_length": field(128, "tokens of an example at most, specials included", at_least=3, at_most=MAX_LENGTH),
    # Chosen from the data to pad least. Each is compiled once: there are fewer where the run is too short for that to
    # pay, on GPUs and TPUs more often than on CPUs (data/length_buckets.py).
    "num_length_buckets": field(8, "padded lengths that batches have at most", at_least=1, at_most=10_000),
    # Of all processes and devices together.
    "batch_size": field(32, "examples of a training batch", at_least=1, at_most=MAX_ROWS),
    "eval_batch_size": field(128, "examples of an evaluation batch", at_least=1, at_most=MAX_ROWS),
    # 1: no sorting, more padding.
    "bucket_window": field(32, "batches whose examples are sorted by length together", at_least=1, at_most=MAX_ROWS),
    # Of large train files; all processes must see the folder. Empty: one in the user's cache.
    "cache_dir": field("", "folder where tokens are kept", binds=False),
    # Drawn by the seed of the run.
    "num_train_examples": field(0, "labelled train examples to use; 0: all", at_least=0, at_most=10_000_000_000),
    # "balanced" weighs the task loss of a class by 1 / its share, NAME=WEIGHT,... as it says; the mean weight of a
    # train example is 1.
    "class_weights": field("", "weights of rare classes; empty: all alike", reads=class_weights.check),
}


def fields():
    """The fields of the section, those of all data sets included.

    Raises:
      ValueError: a field is defined twice.
    """
    of_sets = contract.fields()
    if twice := sorted(set(of_sets) & set(FIELDS)):
        raise ValueError(f"data sets define fields that every set has: {', '.join(twice)}")
    return FIELDS | of_sets


def default_config():
    """Returns the section with its defaults, an ml_collections ConfigDict."""
    from ml_collections import ConfigDict

    return ConfigDict(defaults(fields()))


def check(options) -> None:
    """Refuses what contradicts itself, before a file is opened.

    Raises:
      UserError: with what was expected, what came and what to do.
    """
    refuse(faults(fields(), options, "data."))
    contract.check(options)
