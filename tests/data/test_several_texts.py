"""Rows of several texts, each encoded by itself: shapes, numbers by hand, processes, resuming."""

import numpy as np
import pytest

from codir_jax.data import dataset as dataset_lib
from codir_jax.data import pipeline
from codir_jax.data.batch import empty
from codir_jax.data.splits import Examples, RawSplit, columns_of
from codir_jax.data.tokenizer_training import train_wordpiece
from codir_jax.processes.user_error import UserError

PAD = 9
# Three rows of two texts: lengths 2 1 | 3 4 | 1 2.
TWO = Examples(
    tokens=np.array([10, 11, 20, 30, 31, 32, 40, 41, 42, 43, 50, 60, 61], np.int32),
    token_types=np.zeros(13, np.int8),
    offsets=np.array([0, 2, 3, 6, 10, 11, 13]),
    labels=np.array([1, 0, 0], np.int32),
    is_labelled=np.array([True, True, False]),
    text_ids=np.array([[0, 1], [2, 1], [4, 5]], np.int32),  # of the first two rows the second text is one
    texts_per_row=2,
    columns={"weight": np.array([1.0, 2.0, 3.0], np.float32)},
)


@pytest.fixture(scope="module")
def wordpiece():
    return train_wordpiece(["the cat sat on a mat", "dogs run"], 60)


def tokenize(tokenizer, raw, **changes):
    arguments = {"label_names": ("no", "yes"), "is_regression": False, "metrics": ("accuracy",), "max_length": 16}
    return dataset_lib.tokenize_dataset("apart", raw, tokenizer=tokenizer, **{**arguments, **changes})


def train(examples, **changes):
    arguments = {"batch_size": 4, "length_buckets": (2, 4), "pad_token_id": PAD, "seed": 3, "window": 1}
    return list(pipeline.train_batches(examples, **{**arguments, "start_step": 0, "num_steps": 5, **changes}))


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_a_batch_of_two_texts_a_row_by_hand():
    assert len(TWO) == 3 and TWO.lengths.tolist() == [2, 4, 2]
    batch = pipeline.collate(TWO, np.array([1, 0]), batch_size=3, length_buckets=(2, 4), pad_token_id=PAD)
    assert batch["input_ids"].tolist() == [
        [[30, 31, 32, 9], [40, 41, 42, 43]], [[10, 11, 9, 9], [20, 9, 9, 9]], [[9, 9, 9, 9], [9, 9, 9, 9]],
    ]  # fmt: skip
    assert batch["attention_mask"].tolist() == [
        [[1, 1, 1, 0], [1, 1, 1, 1]], [[1, 1, 0, 0], [1, 0, 0, 0]], [[0] * 4, [0] * 4],
    ]  # fmt: skip
    assert batch["example_ids"].tolist() == [1, 0, 3] and batch["labels"].tolist() == [0, 1, 0]
    assert batch["weight"].tolist() == [2.0, 1.0, 0.0] and batch["text_ids"].tolist() == [[2, 1], [0, 1], [-1, -1]]
    short = pipeline.collate(TWO, np.array([2]), batch_size=1, length_buckets=(2, 4), pad_token_id=PAD)
    assert short["input_ids"].tolist() == [[[50, 9], [60, 61]]]
    zeros = empty(columns_of(TWO), 3, length=4)
    assert {name: (v.shape, v.dtype) for name, v in batch.items()} == {n: (v.shape, v.dtype) for n, v in zeros.items()}


def test_two_processes_and_a_resumed_run_see_the_rows_of_one():
    whole = train(TWO)
    halves = [train(TWO, process_index=index, process_count=2) for index in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert_same(batch, {name: np.concatenate([first[name], second[name]]) for name in first})
    for batch, again in zip(whole[3:], train(TWO, start_step=3), strict=True):
        assert_same(batch, again)
    assert whole[0]["input_ids"].shape == (4, 2, 4)


def test_evaluation_and_padding_count_rows_by_their_longest_text():
    (batch,) = pipeline.eval_batches(TWO, batch_size=3, length_buckets=(4,), pad_token_id=PAD)
    assert batch["example_ids"].tolist() == [0, 2, 1]
    share = pipeline.real_token_share(TWO, batch_size=4, length_buckets=(4,))
    assert share == pytest.approx(13 / (4 * 2 * 4))


def test_texts_apart_are_encoded_as_if_each_were_alone(wordpiece):
    texts = (["the cat", "dogs run", "the cat"], ["a mat", "the cat sat", "a mat"], ["sat", "run", " sat "])
    data = tokenize(wordpiece, {"train": RawSplit(texts[0], None, [0, 1, 0], texts[1:])})
    rows = data.splits["train"]
    assert data.info.texts_per_row == rows.texts_per_row == 3 and not data.info.is_pair
    for row in range(3):
        for place in range(3):
            text = 3 * row + place
            found = rows.tokens[rows.offsets[text] : rows.offsets[text + 1]].tolist()
            assert found == wordpiece(texts[place][row]).input_ids
    # Every text has a number of its own; that of the first equal one, wherever it stands, outer white space aside.
    assert rows.text_ids.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    other = tokenize(wordpiece, {"train": RawSplit(texts[0], None, [0, 1, 0], (texts[1], ["sat", "run", "run"]))})
    assert other.splits["train"].text_ids.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 5]]
    alone = tokenize(wordpiece, {"train": RawSplit([t for row in zip(*texts, strict=True) for t in row])})
    assert alone.fingerprint != data.fingerprint
    np.testing.assert_array_equal(alone.splits["train"].tokens, rows.tokens)


def test_rows_of_several_texts_are_sorted_drawn_and_joined_whole(wordpiece):
    cats, dogs = [f"cat {i}" for i in "sat"], [f"dogs {i}" for i in "sat"]
    more = RawSplit(["cat"], apart=(["dogs"],))
    raw = {"train": RawSplit(cats, None, [0, None, 1], (dogs,)), "unlabelled": more}
    rows = tokenize(wordpiece, raw).splits["train"]
    for row, (a, b) in enumerate([(cats[0], dogs[0]), (cats[2], dogs[2]), (cats[1], dogs[1]), ("cat", "dogs")]):
        for place, text in enumerate((a, b)):
            start, end = rows.offsets[2 * row + place : 2 * row + place + 2]
            assert rows.tokens[start:end].tolist() == wordpiece(text).input_ids


def test_texts_together_and_apart_do_not_mix(wordpiece):
    with pytest.raises(ValueError, match="not both"):
        RawSplit(["a"], ["b"], None, (["c"],))
    with pytest.raises(ValueError, match=r"expected 1, got 2"):
        RawSplit(["a"], apart=(["b", "c"],))
    with pytest.raises(UserError, match=r"apart has 2 texts apart in train and single texts in dev"):
        tokenize(wordpiece, {"train": RawSplit(["a"], None, [0], (["b"],)), "dev": RawSplit(["a"], None, [0])})
