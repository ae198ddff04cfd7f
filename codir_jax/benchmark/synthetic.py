"""Full-length random tokens: every batch of one shape, nothing padded."""

import numpy as np

from codir_jax.data.batch import Dataset, DatasetInfo, Examples

NUM_CLASSES = 2


def dataset(num_examples: int, length: int, vocab_size: int, pad_token_id: int, seed: int = 0) -> Dataset:
    """A train and a dev split of random texts of exactly `length` tokens, labels 0, 1, 0, 1, ...

    Args:
      num_examples: of train; dev has an eighth of them, at least two.
      vocab_size: ids are drawn from 5 (the first that is no special token) to its end.
    """
    rng = np.random.default_rng(seed)
    splits = {
        name: _split(rng, size, length, vocab_size)
        for name, size in (("train", num_examples), ("dev", max(num_examples // 8, 2)))
    }
    return Dataset(info("random", num_examples), splits, pad_token_id, f"random {num_examples} x {length} of {seed}")


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
        tokens=rng.integers(5, vocab_size, num_examples * length, dtype=np.int32),
        token_types=np.zeros(num_examples * length, np.int8),
        offsets=length * np.arange(num_examples + 1, dtype=np.int64),
        labels=np.arange(num_examples, dtype=np.int32) % NUM_CLASSES,
        is_labelled=np.ones(num_examples, bool),
        text_ids=np.arange(num_examples, dtype=np.int32),
    )
