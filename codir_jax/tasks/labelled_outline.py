"""A labelled train set by its number and lengths, and the padded batches that follow from them."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from codir_jax.config import run_steps
from codir_jax.data import dataset, epoch_order, length_buckets, tokenizer, unlabelled
from codir_jax.data.batch import LABELLED_COLUMNS, Column, empty
from codir_jax.data.data_error import DataError
from codir_jax.data.on_disk import sources
from codir_jax.data.on_disk.streamed import LEAST_BYTES
from codir_jax.data.sets import contract as sets
from codir_jax.data.splits import RawSplit
from codir_jax.data.table_labels import class_name
from codir_jax.objectives.contract import TrainRows, needs_labels
from codir_jax.objectives.heads.classification import Classification
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.contract import Outline

# So many texts are tokenised; of more, an even sample. So many lengths make up the epoch that is looked at.
NUM_TOKENISED, NUM_LENGTHS = 4096, 200_000
# Of at most so many texts in memory all are tokenised: a run trains the words that occur. More texts have most words.
MAX_ALL = 100_000
# Tables are made for at most this many examples; `codir plan` stretches their first axis for more.
MAX_TABLE_ROWS = 1 << 14
# Without a tokenizer: word pieces of an English word, and specials.
TOKENS_PER_WORD, NUM_SPECIAL = 1.3, 3
# Of an example on the host: a token and its type, 5 bytes each; offset, label, mask and text id.
HOST_TOKEN_BYTES, HOST_EXAMPLE_BYTES = 5, 17
# Of an English text, a token of a vocabulary of 30,000 to 50,000: whether it is read from disk goes by its bytes.
TEXT_BYTES_PER_TOKEN = 4
# Of an example of the block that is put in order: row, length, place, the sorted rows, and the block before and after.
ORDER_BYTES = 64


def data_of(config: ConfigDict) -> ConfigDict:
    """The `data` section of a config, without texts that teach its objective nothing."""
    return unlabelled.left_out(config.data) if needs_labels(config.objective.name) else config.data


def outline(config: ConfigDict, num_examples: int, length: int, text_tokenizer, platform: str) -> Outline:
    """The train set of the config, read as a run reads it and tokenised in part; or as the arguments say.

    Args:
      num_examples, length: both given, no data is read; one given, it takes the place of what the data has. Nor are
        data downloaded.
      text_tokenizer: None estimates lengths from words.
      platform: of the devices that the run is planned for.
    """
    if num_examples and length:
        told = f"{num_examples:,} examples of {length} tokens, as given"
        return of_lengths(config, num_examples, np.asarray([length]), 2, False, told, platform)
    data = data_of(config)
    if (known := sets.unread(data)) is not None:
        num_train = num_examples or min(known.num_train, data.num_train_examples or known.num_train)
        longest = length or data.max_length
        how = "as given" if length else "the most that data.max_length lets through (--length=N)"
        told = f"{num_train:,} train examples; {data.name} is not on this machine; {longest} tokens each, {how}"
        lengths, classes = np.asarray([longest]), (known.num_classes, known.is_regression)
        return of_lengths(config, num_train, lengths, *classes, told, platform)
    train, found, num_classes, is_regression, is_whole = _train(data)
    if train.apart:
        raise UserError(f"data {data.name} has several texts a row, and what they cost is not modelled")
    num_train = num_examples or found
    takes_all = text_tokenizer is not None and is_whole and num_train == found <= MAX_ALL
    rows = range(0, len(train), 1 if takes_all else -(-len(train) // NUM_TOKENISED))
    seen = None
    firsts = [train.texts_a[i] for i in rows]
    seconds = [train.texts_b[i] for i in rows] if train.texts_b is not None else None
    if takes_all or (text_tokenizer is not None and not length):
        tokens, _, offsets, _ = tokenizer.encode(text_tokenizer, firsts, seconds, data.max_length)
        seen = np.unique(tokens) if takes_all else None
    if length:
        lengths, how = np.asarray([length]), f"lengths as given: {length}"
    elif text_tokenizer is not None:
        lengths, how = np.diff(offsets), f"{len(rows):,} of them tokenised"
    else:
        both = zip(firsts, seconds, strict=True) if seconds else ((text, "") for text in firsts)
        words = np.asarray([len(a.split()) + len(b.split()) for a, b in both])
        lengths = np.minimum(np.ceil(words * TOKENS_PER_WORD).astype(int) + NUM_SPECIAL, data.max_length)
        how = f"lengths estimated from words ({TOKENS_PER_WORD} tokens each: there is no tokenizer)"
    told = f"{num_train:,} train examples{' as given' if num_examples else ''}; {data.name}: {found:,}, {how}"
    made = of_lengths(config, num_train, lengths, num_classes, is_regression, told, platform)
    return dataclasses.replace(made, seen_tokens=seen)


def _train(data: ConfigDict) -> tuple[RawSplit, int, int, bool, bool]:
    """(rows of the train split, or of its first part where it is streamed; how many a run has; classes; is a
    regression; whether the rows are all that a run has)."""
    streamed = sources.find(data)
    if streamed is None:
        raw, label_names, is_regression, *_ = dataset.read(data)
        if "train" not in raw:
            raise UserError(f"data {data.name} has no train split; it has: {', '.join(raw)}")
        train, more = raw["train"], raw.get("unlabelled")
        found = min(len(train), data.num_train_examples or len(train)) + (len(more) if more else 0)
        is_whole = not more and found == len(train)
        return train, found, 1 if is_regression else len(label_names), is_regression, is_whole
    train, problems = streamed.train, []
    labelled, others = train.units()
    found, rows = 0, []
    for units, most in ((labelled, data.num_train_examples), (others, 0)):
        if not units:
            continue
        rows.append(units[0].read(problems))
        if problems:
            raise DataError(problems)
        # The other units have rows of the same size, about.
        count = round(len(rows[-1]) * sum(unit.num_bytes for unit in units) / max(units[0].num_bytes, 1))
        found += min(count, most or count)
    classes = train.label_names or set(map(class_name, rows[0].labels or ()))
    return rows[0], found, 1 if train.is_regression else len(classes), train.is_regression, False


def host_bytes(options: ConfigDict, num_train: int, length: float) -> float:
    """Bytes that every host holds of the train split: its tokens unless they are on disk, and the order of a block.

    Args:
      length: tokens of a text, in the mean.
    """
    held = num_train * (HOST_TOKEN_BYTES * length + HOST_EXAMPLE_BYTES)
    if num_train * length * TEXT_BYTES_PER_TOKEN >= LEAST_BYTES:
        held = 0.0
    return held + ORDER_BYTES * epoch_order.block_size(num_train, options.batch_size, options.bucket_window)


def of_lengths(
    config: ConfigDict,
    num_train: int,
    lengths: np.ndarray,
    num_classes: int,
    is_regression: bool,
    told: str,
    platform: str,
) -> Outline:
    """The outline of `num_train` examples whose lengths repeat those of `lengths`, int [some]."""
    options = config.data
    of_epoch = np.resize(lengths, min(num_train, NUM_LENGTHS))
    rows = epoch_order.epoch_batches(of_epoch, options.batch_size, seed=0, epoch=0, window=options.bucket_window)
    longest = np.where(rows >= 0, of_epoch[rows], 0).max(axis=1)
    last = length_buckets.round_up(int(of_epoch.max()), options.max_length)
    steps_per_epoch = epoch_order.num_batches_per_epoch(num_train, options.batch_size)
    num_steps, program = run_steps(config.train, steps_per_epoch), length_buckets.compilation(platform)
    each = length_buckets.price_of_length(program, options.batch_size, num_steps, len(longest))
    buckets = length_buckets.choose(longest, options.num_length_buckets, last, each)
    shares = np.bincount(np.searchsorted(buckets, longest), minlength=len(buckets)) / len(longest)
    num_rows = min(num_train, MAX_TABLE_ROWS)
    labels = np.arange(num_rows) % max(num_classes, 2)
    dtype = np.float32 if is_regression else np.int32
    example = empty({**LABELLED_COLUMNS, "labels": Column((), dtype)}, 1, length=1)
    return Outline(
        head=Classification(num_classes, is_regression),
        rows=TrainRows(
            labels.astype(dtype), np.ones(num_rows, bool), np.arange(num_rows, dtype=np.int32), is_regression
        ),
        num_train=num_train,
        num_table_rows=num_rows,
        lengths=lengths,
        length_buckets=tuple(buckets),
        shares=tuple(shares.tolist()),
        steps_per_epoch=steps_per_epoch,
        num_predictions=0,
        example_batch=example,
        host_bytes=host_bytes(options, num_train, float(lengths.mean())),
        has_fixed_inputs=True,
        told=told,
    )
