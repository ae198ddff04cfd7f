"""Full-length random tokens, labelled or to be masked: every batch of one shape, nothing padded."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from codir_jax.data.corpus.chunks import Chunks
from codir_jax.data.corpus.corpus import Corpus, CorpusInfo
from codir_jax.data.corpus.masking import Masking, num_masked
from codir_jax.data.corpus.shards import NUM_SPECIAL
from codir_jax.data.splits import Dataset, DatasetInfo, Examples

NUM_CLASSES = 2
_FIRST_WORD = 5  # the ids before it are special tokens
_CHUNKS_PER_DOCUMENT = 8


def dataset(num_examples: int, length: int, vocab_size: int, pad_token_id: int, seed: int = 0) -> Dataset:
    """A train and a dev split of random texts of exactly `length` tokens, labels 0, 1, 0, 1, ...

    Args:
      num_examples: of train; dev has an eighth of them, at least two.
      vocab_size: ids are drawn from the first that is no special token to its end.
    """
    rng = np.random.default_rng(seed)
    splits = {
        name: _split(rng, size, length, vocab_size)
        for name, size in (("train", num_examples), ("dev", max(num_examples // 8, 2)))
    }
    return Dataset(info("random", num_examples), splits, pad_token_id, f"random {num_examples} x {length} of {seed}")


def corpus(
    num_chunks: int, length: int, vocab_size: int, pad_token_id: int, *, mask_rate: float, seed: int = 0
) -> Corpus:
    """A train and a dev split, sized as in `dataset`, of chunks of exactly `length` tokens, masked when they are read.

    Args:
      mask_rate: share of the tokens that are masked.
    """
    rng = np.random.default_rng(seed)
    sizes = {"train": num_chunks, "dev": max(num_chunks // 8, 2)}
    slots = num_masked(length - NUM_SPECIAL, mask_rate)
    splits = {name: _chunks(rng, size, length, vocab_size, slots) for name, size in sizes.items()}
    words = np.arange(_FIRST_WORD, vocab_size, dtype=np.int32)
    masking = Masking(
        rate=mask_rate,
        whole_word=False,
        mask_token_id=_FIRST_WORD - 1,
        is_special=np.arange(vocab_size) < _FIRST_WORD,
        is_word_start=np.ones(vocab_size, bool),
        replacements=words,
    )
    facts = CorpusInfo(
        name="random",
        num_train=num_chunks,
        vocab_size=vocab_size,
        num_documents={name: 1 + int(split.document_ids[-1]) for name, split in splits.items()},
        num_tokens={name: size * (length - NUM_SPECIAL) for name, size in sizes.items()},
        num_chunks=sizes,
        splits=tuple(splits),
        sources={"random": num_chunks},
    )
    return Corpus(facts, splits, f"random {num_chunks} x {length} of {seed}", pad_token_id, length, masking)


def info(name: str, num_train: int) -> DatasetInfo:
    """The facts of such a task."""
    return DatasetInfo(
        name=name,
        num_train=num_train,
        num_labelled=num_train,
        num_classes=NUM_CLASSES,
        label_names=("0", "1"),
        is_regression=False,
        is_pair=False,
        metrics=("accuracy",),
        num_truncated={"train": 0, "dev": 0},
        splits=("train", "dev"),
    )


def _split(rng: np.random.Generator, num_examples: int, length: int, vocab_size: int) -> Examples:
    return Examples(
        tokens=rng.integers(_FIRST_WORD, vocab_size, num_examples * length, dtype=np.int32),
        token_types=np.zeros(num_examples * length, np.int8),
        offsets=length * np.arange(num_examples + 1, dtype=np.int64),
        labels=np.arange(num_examples, dtype=np.int32) % NUM_CLASSES,
        is_labelled=np.ones(num_examples, bool),
        text_ids=np.arange(num_examples, dtype=np.int32),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _InMemory(Chunks):
    """Chunks that need no file; rows: int32 [n, length]."""

    rows: np.ndarray

    def tokens(self, rows: Sequence[int]) -> list[np.ndarray]:
        return list(self.rows[np.asarray(rows)])


def _chunks(rng: np.random.Generator, num_chunks: int, length: int, vocab_size: int, num_slots: int) -> Chunks:
    rows = rng.integers(_FIRST_WORD, vocab_size, (num_chunks, length), dtype=np.int32)
    rows[:, [0, -1]] = 2, 3  # any special tokens: never masked
    numbers = np.arange(num_chunks, dtype=np.int32)
    return _InMemory(
        document_ids=numbers // _CHUNKS_PER_DOCUMENT,
        text_ids=numbers,
        lengths=np.full(num_chunks, length, np.int32),
        chunks=numbers,
        shard_paths=(),
        shard_offsets=np.array([0, num_chunks]),
        dtype="int32",
        num_masked_max=num_slots,
        source_offsets=np.array([0, num_chunks]),
        source_weights=(1.0,),
        rows=rows,
    )
