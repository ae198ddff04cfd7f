"""Batches: the contract, the order, resuming, processes, buckets, padding."""

import dataclasses

import numpy as np
import pytest

from codir_jax.data import epoch_order, pipeline
from codir_jax.data.batch import LABELLED_COLUMNS
from codir_jax.data.splits import Examples, RawSplit

BUCKETS = (4, 8, 16)
PAD = 99


def make_examples(num=21, regression=False, seed=0) -> Examples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 17, num)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    is_labelled = np.arange(num) < num - 4
    labels = rng.random(num).astype(np.float32) if regression else rng.integers(0, 3, num).astype(np.int32)
    text_ids = np.arange(num, dtype=np.int32)
    text_ids[5] = 2
    return Examples(
        tokens=rng.integers(0, 90, offsets[-1]).astype(np.int32),
        token_types=rng.integers(0, 2, offsets[-1]).astype(np.int8),
        offsets=offsets,
        labels=np.where(is_labelled, labels, 0).astype(labels.dtype),
        is_labelled=is_labelled,
        text_ids=text_ids,
    )


def train(examples, **changes):
    settings = {
        "batch_size": 4,
        "length_buckets": BUCKETS,
        "pad_token_id": PAD,
        "seed": 3,
        "window": 2,
        "start_step": 0,
        "num_steps": 14,
    }
    return list(pipeline.train_batches(examples, **{**settings, **changes}))


def assert_same_batch(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


@pytest.mark.parametrize("regression", [False, True])
def test_a_batch_has_the_keys_dtypes_and_values_of_the_contract(regression):
    examples = make_examples(regression=regression)
    batch = pipeline.collate(examples, np.array([5, 20, 0]), batch_size=4, length_buckets=BUCKETS, pad_token_id=PAD)
    dtypes = {name: column.dtype for name, column in LABELLED_COLUMNS.items()}
    dtypes["labels"] = np.float32 if regression else np.int32
    assert {key: value.dtype for key, value in batch.items()} == {key: np.dtype(v) for key, v in dtypes.items()}
    for row, example in enumerate([5, 20, 0]):
        start, end = examples.offsets[example : example + 2]
        length = end - start
        np.testing.assert_array_equal(batch["input_ids"][row, :length], examples.tokens[start:end])
        np.testing.assert_array_equal(batch["token_type_ids"][row, :length], examples.token_types[start:end])
        assert (batch["input_ids"][row, length:] == PAD).all()
        assert (batch["token_type_ids"][row, length:] == 0).all()
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (batch["input_ids"].shape[1] - length)
    assert batch["example_ids"].tolist() == [5, 20, 0, 21]
    assert batch["text_ids"].tolist() == [2, 20, 0, -1]
    assert batch["example_mask"].tolist() == [1, 1, 1, 0]
    assert batch["label_mask"].tolist() == [1, 0, 1, 0]
    assert batch["labels"].tolist() == [examples.labels[5], 0, examples.labels[0], 0]


def test_padding_rows_are_empty():
    indices = np.array([-1, 3, -1])
    batch = pipeline.collate(make_examples(), indices, batch_size=5, length_buckets=BUCKETS, pad_token_id=PAD)
    padding = [0, 2, 3, 4]
    assert (batch["input_ids"][padding] == PAD).all()
    for key in ("attention_mask", "token_type_ids", "labels", "label_mask", "example_mask"):
        assert not batch[key][padding].any(), key
    assert (batch["example_ids"][padding] == 21).all()


def test_a_batch_is_as_long_as_the_smallest_bucket_that_holds_it():
    examples = make_examples(200)
    for batch in train(examples, num_steps=50):
        longest = batch["attention_mask"].sum(axis=1).max()
        assert batch["input_ids"].shape[1] == min(bucket for bucket in BUCKETS if bucket >= longest)


def test_an_example_longer_than_every_bucket_is_an_error_that_names_both():
    with pytest.raises(ValueError, match=r"has \d+ tokens and the largest bucket is 4"):
        train(make_examples(), length_buckets=(4,))


@pytest.mark.parametrize("window", [1, 2, 100])
def test_the_order_is_a_pure_function_of_seed_and_epoch(window):
    lengths = make_examples(50).lengths
    order = epoch_order.epoch_batches(lengths, 4, seed=1, epoch=2, window=window)
    np.testing.assert_array_equal(order, epoch_order.epoch_batches(lengths, 4, seed=1, epoch=2, window=window))
    assert (order != epoch_order.epoch_batches(lengths, 4, seed=1, epoch=3, window=window)).any()
    assert (order != epoch_order.epoch_batches(lengths, 4, seed=2, epoch=2, window=window)).any()


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("num", [1, 20, 21])
def test_an_epoch_has_every_example_once_and_pads_only_one_batch(window, num):
    order = epoch_order.epoch_batches(make_examples(30).lengths[:num], 4, seed=0, epoch=0, window=window)
    assert order.shape == (epoch_order.num_batches_per_epoch(num, 4), 4)
    assert sorted(order[order >= 0].tolist()) == list(range(num))
    assert ((order < 0).any(axis=1)).sum() == (1 if num % 4 else 0)


def test_sorting_within_windows_saves_padding_and_still_shuffles_the_batches():
    examples = make_examples(400)
    shares = [
        pipeline.real_token_share(examples, batch_size=8, length_buckets=BUCKETS, window=window) for window in (1, 10)
    ]
    assert shares[0] < shares[1] <= 1
    order = epoch_order.epoch_batches(examples.lengths, 8, seed=0, epoch=0, window=10)
    longest = examples.lengths[order].max(axis=1)
    assert (np.diff(longest) < 0).any() and (np.diff(longest) > 0).any()


def test_real_token_share_is_what_the_batches_hold():
    examples = make_examples(20)
    batches = train(examples, num_steps=5, window=2, seed=0)
    share = sum(batch["attention_mask"].sum() for batch in batches) / sum(b["attention_mask"].size for b in batches)
    told = pipeline.real_token_share(examples, batch_size=4, length_buckets=BUCKETS, window=2)
    assert told == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("start", [1, 5, 6, 13, 14])
def test_resuming_at_a_step_gives_the_batches_of_the_straight_run(start):
    examples = make_examples()
    straight, resumed = train(examples), train(examples, start_step=start)
    assert len(straight) == 14 and len(resumed) == 14 - start
    for left, right in zip(straight[start:], resumed, strict=True):
        assert_same_batch(left, right)


def test_threads_do_not_change_the_batches():
    examples = make_examples()
    for left, right in zip(train(examples, num_threads=0), train(examples, num_threads=5), strict=True):
        assert_same_batch(left, right)


def test_two_epochs_have_every_example_twice_in_another_order():
    batches = train(make_examples(), num_steps=12)
    ids = [np.concatenate([batch["example_ids"] for batch in half]) for half in (batches[:6], batches[6:])]
    assert sorted(ids[0]) == sorted(ids[1]) == [*range(21), 21, 21, 21]
    assert ids[0].tolist() != ids[1].tolist()


@pytest.mark.parametrize("window", [1, 2])
def test_rows_of_two_processes_make_the_batch_of_one(window):
    examples = make_examples()
    logits = np.arange(21 * 2, dtype=np.float32).reshape(21, 2)
    whole = train(examples, window=window, columns={"teacher_logits": logits})
    halves = [
        train(examples, window=window, columns={"teacher_logits": logits}, process_index=i, process_count=2)
        for i in range(2)
    ]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert_same_batch(batch, {key: np.concatenate([first[key], second[key]]) for key in first})


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ValueError, match="batch_size 4 is not divisible by 3 processes; use 3 or 6"):
        train(make_examples(), process_count=3)


def test_extra_arrays_are_indexed_by_example_and_zero_on_padding():
    pooled = np.random.default_rng(0).normal(size=(21, 2, 3)).astype(np.float32)
    for batch in train(make_examples(), columns={"teacher_pooled": pooled}):
        for row, example in enumerate(batch["example_ids"]):
            np.testing.assert_array_equal(batch["teacher_pooled"][row], pooled[example] if example < 21 else 0)
    with pytest.raises(ValueError, match="expected 21, got 20"):
        train(make_examples(), columns={"teacher_pooled": pooled[:20]})


@pytest.mark.parametrize(
    ("num", "at_most", "multiple", "size"),
    [(194, 128, 1, 97), (194, 128, 8, 104), (16, 128, 8, 16), (1, 128, 8, 8), (128, 128, 8, 128), (129, 128, 1, 65)],
)
def test_evaluation_batches_are_as_even_as_they_can_be(num, at_most, multiple, size):
    assert pipeline.even_batch_size(num, at_most, multiple) == size
    assert -(-num // size) == -(-num // at_most)  # no more batches than without it


@pytest.mark.parametrize("process_count", [1, 2])
def test_evaluation_goes_through_every_example_once_shortest_first(process_count):
    examples = make_examples()
    settings = {"batch_size": 8, "length_buckets": BUCKETS, "pad_token_id": PAD, "process_count": process_count}
    parts = [list(pipeline.eval_batches(examples, process_index=i, **settings)) for i in range(process_count)]
    batches = [{key: np.concatenate([b[key] for b in group]) for key in group[0]} for group in zip(*parts, strict=True)]
    ids = np.concatenate([batch["example_ids"] for batch in batches])
    is_real = np.concatenate([batch["example_mask"] for batch in batches]) == 1
    assert sorted(ids[is_real].tolist()) == list(range(21)) and len(ids) == 24
    assert (np.diff(examples.lengths[ids[is_real]]) >= 0).all()


def test_containers_refuse_columns_of_unlike_length_and_cannot_be_changed():
    with pytest.raises(ValueError, match="expected 2, got 1"):
        RawSplit(["a", "b"], None, [0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_examples().tokens = None
