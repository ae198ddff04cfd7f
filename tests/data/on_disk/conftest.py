"""What makes a small table go the way of a large one."""

import pytest

from codir_jax.data.on_disk import sources, tables
from codir_jax.data.shards import files, preparation
from codir_jax.data.tokenizer_training import train_wordpiece

WORDS = ["the", "a", "small", "large", "red", "cat", "dog", "bird", "sees", "hears", "café", "“quoted”", "of", "and"]


@pytest.fixture(scope="package")
def wordpiece():
    return train_wordpiece(WORDS, 80)


@pytest.fixture
def small(monkeypatch):
    """Everything is large, and units are small; they are tokenised in this process."""
    monkeypatch.setattr(preparation, "_num_cores", lambda: 1)
    monkeypatch.setattr(sources, "LEAST_BYTES", 0)
    monkeypatch.setattr(tables, "UNIT_BYTES", 700)
    monkeypatch.setattr(files, "_MIN_UNIT_BYTES", 700)
    monkeypatch.setattr(sources, "_ROWS_OF_UNIT", 50)
