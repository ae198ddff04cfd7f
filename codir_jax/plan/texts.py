"""The train set of a job by its number and lengths, and the padded batches that follow from them."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from codir_jax.data import length_buckets, pipeline, tokenizer
from codir_jax.data.corpus import shards, sources
from codir_jax.data.sets import demo, glue, text_classification
from codir_jax.processes.user_error import UserError
from codir_jax.stage import build

# So many texts are tokenised; of more, an even sample. So many lengths make up the epoch that is looked at.
NUM_TOKENISED, NUM_LENGTHS = 4096, 200_000
# Of English text and a vocabulary of 8,000 to 50,000 pieces.
BYTES_PER_TOKEN = 4.2
# Without a tokenizer: word pieces of an English word, and specials.
TOKENS_PER_WORD, NUM_SPECIAL = 1.3, 3


@dataclasses.dataclass(frozen=True)
class Texts:
    """The train set.

    Attributes:
      num_train: examples. lengths: int [some of them], tokens.
      num_classes, is_regression: as in DatasetInfo.
      told: where the figures come from.
    """

    num_train: int
    lengths: np.ndarray
    num_classes: int
    is_regression: bool
    told: str


@dataclasses.dataclass(frozen=True)
class Batches:
    """Shapes of the train batches.

    Attributes:
      buckets: padded lengths. shares: share of the batches that each has.
    """

    buckets: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def longest(self) -> int:
        return self.buckets[-1]


def read(config: ConfigDict, num_examples: int = 0, length: int = 0, has_tokenizer: bool = True) -> Texts:
    """The train set of the config, read as a run reads it and tokenised in part; or as the arguments say.

    Args:
      num_examples, length: both given, no data is read; one given, it takes the place of what the data has.
      has_tokenizer: False estimates lengths from words.
    """
    if config.data.name == "corpus":
        return _of_corpus(config.data, num_examples, length)
    if num_examples and length:
        told = f"{num_examples:,} examples of {length} tokens, as given"
        return Texts(num_examples, np.asarray([length]), 2, False, told)
    data = config.data
    source = {"demo": demo, "text_classification": text_classification}.get(data.name, glue)
    raw, label_names, is_regression, _ = source.read(data)
    if "train" not in raw:
        raise UserError(f"data {data.name} has no train split; it has: {', '.join(raw)}")
    unlabelled = raw.get("unlabelled")
    if unlabelled is None and data.name == "demo":
        unlabelled = text_classification.read_unlabelled(data, is_pair=False)
    train = raw["train"]
    found = min(len(train), data.num_train_examples or len(train)) + (len(unlabelled) if unlabelled else 0)
    rows = range(0, len(train), -(-len(train) // NUM_TOKENISED))
    firsts = [train.texts_a[i] for i in rows]
    seconds = [train.texts_b[i] for i in rows] if train.texts_b is not None else None
    if length:
        lengths, how = np.asarray([length]), f"lengths as given: {length}"
    elif has_tokenizer:
        _, _, offsets, _ = tokenizer.encode(build.make_tokenizer(config), firsts, seconds, data.max_length)
        lengths, how = np.diff(offsets), f"{len(rows):,} of them tokenised"
    else:
        words = [len(a.split()) + (len(b.split()) if b else 0) for a, b in zip(firsts, seconds or firsts, strict=True)]
        words = np.asarray(words) if seconds else np.asarray([len(a.split()) for a in firsts])
        lengths = np.minimum(np.ceil(words * TOKENS_PER_WORD).astype(int) + NUM_SPECIAL, data.max_length)
        how = f"lengths estimated from words ({TOKENS_PER_WORD} tokens each: there is no tokenizer)"
    num_train, num_classes = num_examples or found, 1 if is_regression else len(label_names)
    told = f"{num_train:,} train examples{' as given' if num_examples else ''}; {data.name}: {found:,}, {how}"
    return Texts(num_train, lengths, num_classes, is_regression, told)


def _of_corpus(options: ConfigDict, num_chunks: int, length: int) -> Texts:
    """The chunks of a corpus: as given, or from the bytes of its sources, of which no text is read."""
    length = length or options.max_length
    told = "as given"
    if not num_chunks:
        found = sources.units(sources.find(options.sources, options.tfds_data_dir))
        num_bytes = sum(unit.num_bytes for unit in found)
        num_chunks = max(round(num_bytes / BYTES_PER_TOKEN / (length - shards.NUM_SPECIAL)), 1)
        told = f"from {num_bytes / 1e6:,.1f} MB of text at {BYTES_PER_TOKEN} bytes a token"
    return Texts(num_chunks, np.asarray([length]), 0, False, f"{num_chunks:,} chunks of {length} tokens, {told}")


def batches(options: ConfigDict, texts: Texts) -> Batches:
    """The padded lengths that a run would choose, from the lengths of an epoch of at most NUM_LENGTHS examples."""
    if options.name == "corpus":
        return Batches((int(texts.lengths.max()),), (1.0,))
    lengths = np.resize(texts.lengths, min(texts.num_train, NUM_LENGTHS))
    rows = pipeline.epoch_batches(lengths, options.batch_size, seed=0, epoch=0, window=options.bucket_window)
    longest = np.where(rows >= 0, lengths[rows], 0).max(axis=1)
    last = length_buckets.round_up(int(lengths.max()), options.max_length)
    buckets = length_buckets.choose(longest, options.num_length_buckets, last)
    places = np.searchsorted(buckets, longest)
    shares = np.bincount(places, minlength=len(buckets)) / len(longest)
    return Batches(buckets, tuple(shares.tolist()))


def has_tokenizer(config: ConfigDict) -> bool:
    """Whether the config names a tokenizer that is here."""
    path = config.tokenizer_path or config.teacher.path or config.student.path
    return (config.data.name == "demo" and not path) or Path(path).expanduser().is_dir()
