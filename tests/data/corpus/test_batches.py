"""Batches: keys and shapes, the same after a resume and on any number of processes, evaluation, padding."""

import math

import numpy as np
import pytest

from codir_jax.data.batch import MASKED_LM_COLUMNS, empty
from codir_jax.data.corpus import batches, sources, vocabulary
from tests.data.corpus.conftest import prose, rows_of


@pytest.fixture
def corpus(write, load, wordpiece):
    write({f"book{i}.txt": prose(90, seed=i) for i in range(6)})
    return load(wordpiece)[0]


def train(corpus, config, start=0, stop=12, **more):
    return list(batches.train_batches(corpus, config, seed=1, start_step=start, num_steps=stop, **more))


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_batch_is_as_data_batch_says(corpus, config):
    whole = rows_of(corpus.splits["train"])
    slots = round(0.15 * 14)
    for batch in train(corpus, config, stop=2 * batches.steps_per_epoch(corpus, config)):
        zeros = empty(MASKED_LM_COLUMNS, 4, length=16, slots=slots)
        assert {name: (v.dtype, v.shape) for name, v in batch.items()} == {
            n: (v.dtype, v.shape) for n, v in zeros.items()
        }
        assert batch["input_ids"].shape == (4, 16) and batch["masked_labels"].shape == (4, slots)
        for i, row in enumerate(batch["example_ids"]):
            if not batch["example_mask"][i]:
                assert row == corpus.info.num_train and batch["text_ids"][i] == batch["document_ids"][i] == -1
                assert not batch["attention_mask"][i].any() and not batch["masked_weights"][i].any()
                assert (batch["input_ids"][i] == corpus.pad_token_id).all()
                continue
            used = batch["masked_weights"][i] == 1
            assert used.sum() == max(1, round(0.15 * (len(whole[row]) - 2)))
            restored = batch["input_ids"][i].copy()
            restored[batch["masked_positions"][i][used]] = batch["masked_labels"][i][used]
            assert restored[batch["attention_mask"][i] == 1].tolist() == whole[row]
            assert batch["document_ids"][i] == corpus.splits["train"].document_ids[row]


def test_a_resumed_run_sees_the_same_batches_masks_included(corpus, config):
    straight = train(corpus, config)
    assert_equal(straight[5:], train(corpus, config, start=5))
    assert_equal(straight, train(corpus, config, num_threads=0))
    again = train(corpus, config, stop=2 * batches.steps_per_epoch(corpus, config))
    half = len(again) // 2
    first, second = ({int(b["example_ids"][i]): b["input_ids"][i].tolist() for b in part for i in range(4)}
                     for part in (again[:half], again[half:]))  # fmt: skip
    assert set(first) == set(second) and sum(first[row] != second[row] for row in first) > len(first) / 2


def joined(shares):
    """Global batches of the batches of all processes."""
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize("chunks_per_document", [1, 2])
def test_processes_share_the_batches_of_one(corpus, config, chunks_per_document):
    config.chunks_per_document = chunks_per_document
    alone = train(corpus, config)
    shares = [train(corpus, config, process_index=i, process_count=4) for i in range(4)]
    assert_equal(alone, joined(shares))
    evaluated = list(batches.eval_batches(corpus, "dev", config))
    shares = [list(batches.eval_batches(corpus, "dev", config, process_index=i, process_count=2)) for i in range(2)]
    assert_equal(evaluated, joined(shares))


def test_neighbouring_chunks_come_in_one_batch(corpus, config):
    config.chunks_per_document = 2
    for batch in train(corpus, config, stop=batches.steps_per_epoch(corpus, config) - 1):
        ids = batch["example_ids"].reshape(-1, 2)
        assert ((ids[:, 1] - ids[:, 0]) % corpus.info.num_train == 1).all()


def test_an_evaluation_reads_each_chunk_once_with_fixed_masks(corpus, config):
    found = list(batches.eval_batches(corpus, "dev", config))
    ids = np.concatenate([batch["example_ids"][batch["example_mask"] == 1] for batch in found])
    assert ids.tolist() == list(range(len(corpus.splits["dev"])))
    assert_equal(found, list(batches.eval_batches(corpus, "dev", config)))
    config.max_dev_chunks = 3
    (few,) = batches.eval_batches(corpus, "dev", config)
    chosen = few["example_ids"][:3].tolist()
    count = len(corpus.splits["dev"])
    assert chosen == [count // 6, count // 2, 5 * count // 6] and few["example_mask"].tolist() == [1, 1, 1, 0]
    np.testing.assert_array_equal(few["input_ids"][1], found[chosen[1] // 4]["input_ids"][chosen[1] % 4])
    (given,) = batches.eval_batches(corpus, "train", config, rows=[7, 2])
    assert given["example_ids"][:2].tolist() == [7, 2]


def test_the_share_of_real_tokens_is_that_of_the_rows(corpus):
    rows = rows_of(corpus.splits["train"])
    assert batches.real_token_share(corpus) == pytest.approx(sum(map(len, rows)) / (16 * len(rows)))


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level_bpe"])
def test_a_vocabulary_is_learned_from_the_sources(kind, write, config):
    from codir_jax.data.data_error import DataError

    write({"a.txt": prose(200), "b.txt": prose(100, seed=1)})
    told = []
    trained = vocabulary.train(kind, config, 290, tell=told.append)
    assert None not in (trained.mask_token_id, trained.cls_token_id, trained.sep_token_id, trained.pad_token_id)
    units = sources.units(sources.find(config.sources))
    texts = list(vocabulary._texts(units, "text", None, math.inf))
    by_hand = vocabulary.KINDS[kind](texts, 290)
    assert trained.get_vocab() == by_hand.get_vocab() and "of 0.0 MB" in told[0]
    assert list(vocabulary._texts(units, "text", None, 1e-3)) == texts[:1]
    with pytest.raises(ValueError, match="unknown kind of tokenizer 'bpe'; known: byte_level_bpe, wordpiece"):
        vocabulary.train("bpe", config, 290)
    write({"c.txt": b"caf\xe9"})
    with pytest.raises(DataError, match=r"c\.txt:1: broken UTF-8"):
        vocabulary.train(kind, config, 290, tell=told.append)
