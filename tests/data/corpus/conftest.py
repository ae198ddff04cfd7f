"""Small vocabularies and corpora, made on the spot."""

import random

import pytest

from codir_jax.data import tokenizer_training
from codir_jax.data.corpus import corpus, settings
from codir_jax.data.shards import files
from codir_jax.data.shards.preparation import Together

WORDS = "the a old young river house walked singing slowly into under never laughter captain's lantern, sea. tomorrow"


def prose(num_words, seed=0):
    """Lines of a few random words each, with tabs and double spaces."""
    draw = random.Random(seed)
    words = [draw.choice(WORDS.split()) for _ in range(num_words)]
    return "".join(word + draw.choice([" ", " ", " ", "  ", "\t", "\n"]) for word in words) + "\n"


@pytest.fixture(scope="session")
def wordpiece():
    return tokenizer_training.train_wordpiece([prose(300)], 60)


@pytest.fixture(scope="session")
def byte_level():
    return tokenizer_training.train_byte_level_bpe([prose(300)], 300)


@pytest.fixture
def config(tmp_path):
    config = settings.default_config()
    config.cache_dir, config.num_workers = str(tmp_path / "cache"), 1
    config.sources, config.max_length = str(tmp_path / "texts"), 16
    config.batch_size = config.eval_batch_size = 4
    config.dev_percent = 20.0
    return config


@pytest.fixture
def write(tmp_path):
    """write({name: text or bytes}) puts files into the folder that `config` names."""

    def write_files(files):
        for name, content in files.items():
            path = tmp_path / "texts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write_files


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr(files, "_MIN_UNIT_BYTES", 300)


@pytest.fixture
def load(config):
    """load(tokenizer) -> (corpus, what was told)."""

    def load_corpus(tokenizer, **changes):
        told = []
        return corpus.load(config, tokenizer, Together(tell=told.append), **changes), told

    return load_corpus


def rows_of(chunks):
    """All rows as lists of ids."""
    return [tokens.tolist() for tokens in chunks.tokens(range(len(chunks)))]


def packed(tokenizer, texts, max_length):
    """The same by hand: each document tokenised whole, then cut: [(document, ids)]."""
    body = max_length - 2
    rows = []
    for document, text in enumerate(texts):
        ids = tokenizer(" ".join(text.split()), add_special_tokens=False).input_ids
        for start in range(0, len(ids), body):
            part = ids[start : start + body]
            rows.append((document, [tokenizer.cls_token_id, *part, tokenizer.sep_token_id]))
    return rows
