"""What a feed tells of its batches is what they are."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from codir_jax.benchmark import exchange
from codir_jax.data import settings, synthetic
from codir_jax.data.batch import empty
from codir_jax.data.corpus import settings as corpus_settings
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.tasks.corpus_feed import CorpusFeed
from codir_jax.tasks.labelled_feed import LabelledFeed


def labelled(**changes):
    """Random texts of 12 tokens, or rows of two of 6."""
    data = synthetic.dataset(16, 12, 50, 0)
    if changes.pop("two_texts", False):
        train = data.splits["train"]
        changes |= {"texts_per_row": 2, "offsets": 6 * np.arange(33), "text_ids": np.arange(32).reshape(16, 2)}
        assert train.offsets[-1] == 6 * 32
    train = dataclasses.replace(data.splits["train"], **changes)
    options = settings.default_config()
    options.update({"batch_size": 4, "max_length": 12, "num_length_buckets": 1})
    sharding = rules.batch_sharding(make_mesh({"data": -1, "fsdp": 1, "model": 1}))
    run = ConfigDict({"total_steps": 4, "total_epochs": -1.0, "at_least_steps": 0})
    data = dataclasses.replace(data, splits={"train": train})
    return LabelledFeed(data, options, seed=0, sharding=sharding, train=run)


def corpus():
    """Random chunks of 12 tokens."""
    options = corpus_settings.default_config()
    options.update({"batch_size": 4, "max_length": 12, "mask_rate": 0.3})
    return CorpusFeed(synthetic.corpus(16, 12, 50, 0, mask_rate=0.3), options, seed=0, sharding=None)


FEEDS = {
    "labelled": labelled,
    "regression": lambda: labelled(labels=np.zeros(16, np.float32)),
    "columns": lambda: labelled(columns={"domain_ids": np.zeros(16, np.int32), "vectors": np.ones((16, 3))}),
    "two texts": lambda: labelled(two_texts=True),
    "corpus": corpus,
}


@pytest.mark.parametrize("name", FEEDS)
def test_columns_are_those_of_the_batches(name):
    feed = FEEDS[name]()
    (batch,) = feed.train_on_host(0, 1, {})
    same = empty(feed.columns, 4, length=batch["input_ids"].shape[-1])
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in same.items()}


@pytest.mark.parametrize("name", FEEDS)
def test_an_abstract_batch_has_the_shapes_of_a_batch_of_that_length(name):
    feed = FEEDS[name]()
    rows = {"teacher_logits": np.zeros((16, 12), np.float32)}  # as wide as a text is long: no column of tokens
    subject = SimpleNamespace(config=SimpleNamespace(data=feed.options), stage=SimpleNamespace(feed=feed))
    shapes = exchange.abstract_batch(subject, 7, rows)
    assert shapes.keys() == {*feed.columns, "teacher_logits"} and shapes["teacher_logits"].shape == (4, 12)
    assert shapes["attention_mask"].shape == ((4, 2, 7) if name == "two texts" else (4, 7))
