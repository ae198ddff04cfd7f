"""Pairs and token types, truncation, the dataset that comes of them."""

import itertools

import numpy as np
import pytest

from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data import tokenizer_training
from codir_jax.data.dataset import same_text_ids, tokenize_dataset
from codir_jax.data.splits import RawSplit

TEXTS = ["The cat sat on the mat.", "A dog ran!", "the cats run", "dogs sat; the dog sat"] * 3


@pytest.fixture(scope="module")
def wordpiece():
    return tokenizer_training.train_wordpiece(TEXTS, 80)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A byte-level BPE in RoBERTa's layout (<s> 0, <pad> 1, </s> 2), read back from its files."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    folder = tmp_path_factory.mktemp("roberta")
    trained = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(TEXTS, vocab_size=300, min_frequency=1, special_tokens=specials)
    trained.save_model(str(folder))
    fast = RobertaTokenizerFast.from_pretrained(str(folder))
    tokenizer_lib.save_tokenizer(fast, folder / "saved")
    return tokenizer_lib.load_tokenizer(folder / "saved")


def rows_of(encoded):
    tokens, types, offsets, _ = encoded
    return [(tokens[a:b].tolist(), types[a:b].tolist()) for a, b in itertools.pairwise(offsets)]


def dataset(tokenizer, raw, **changes):
    settings = {
        "label_names": ("no", "yes"),
        "is_regression": False,
        "metrics": ("accuracy",),
        "tokenizer": tokenizer,
        "max_length": 32,
    }
    return tokenize_dataset("small", raw, **{**settings, **changes})


def test_a_saved_tokenizer_reads_back_alike(wordpiece, tmp_path):
    tokenizer_lib.save_tokenizer(wordpiece, tmp_path / "new")
    again = tokenizer_lib.load_tokenizer(tmp_path / "new")
    pairs = (TEXTS, TEXTS[::-1], 12)
    assert rows_of(tokenizer_lib.encode(again, *pairs)) == rows_of(tokenizer_lib.encode(wordpiece, *pairs))


def test_bert_pairs_have_types_and_the_longer_text_is_cut_first(wordpiece):
    encoded = tokenizer_lib.encode(wordpiece, ["the cat", "the"], ["a dog", "the cat sat on the mat"], 7)
    (first, first_types), (second, second_types) = rows_of(encoded)
    assert wordpiece.convert_ids_to_tokens(first) == ["[CLS]", "the", "cat", "[SEP]", "a", "dog", "[SEP]"]
    assert first_types == [0, 0, 0, 0, 1, 1, 1]
    assert wordpiece.convert_ids_to_tokens(second) == ["[CLS]", "the", "[SEP]", "the", "cat", "sat", "[SEP]"]
    assert second_types == [0, 0, 0, 1, 1, 1, 1]
    assert encoded[3] == 1
    assert [array.dtype for array in encoded[:3]] == [np.int32, np.int8, np.int64]


def test_roberta_pairs_have_two_separators_and_no_types(roberta):
    ((tokens, types),) = rows_of(tokenizer_lib.encode(roberta, ["the cat"], ["a dog"], 32))
    assert tokens[0] == 0 and tokens[-1] == 2 and tokens.count(2) == 3
    assert not any(types)
    assert roberta.pad_token_id == 1


def test_roberta_dataset_is_padded_with_its_own_token(roberta):
    data = dataset(roberta, {"train": RawSplit(TEXTS, TEXTS, [0, 1] * 6)})
    assert data.pad_token_id == 1 and data.info.is_pair


def test_truncated_texts_are_counted_and_short_ones_are_not(wordpiece):
    texts = ["the cat", "the cat sat on", "the cat sat on the"]
    assert tokenizer_lib.encode(wordpiece, texts, None, 6)[3] == 1
    assert tokenizer_lib.encode(wordpiece, texts, None, 7)[3] == 0
    data = dataset(
        wordpiece, {"train": RawSplit(texts, None, [0, 1, 0]), "dev": RawSplit(texts[:2], None, [0, 1])}, max_length=5
    )
    assert data.info.num_truncated == {"train": 2, "dev": 1}
    assert data.splits["train"].lengths.tolist() == [4, 5, 5]


def test_chunked_calls_give_what_one_call_gives(wordpiece, monkeypatch):
    whole = rows_of(tokenizer_lib.encode(wordpiece, TEXTS, TEXTS[::-1], 12))
    monkeypatch.setattr(tokenizer_lib, "_TEXTS_PER_CALL", 5)
    assert rows_of(tokenizer_lib.encode(wordpiece, TEXTS, TEXTS[::-1], 12)) == whole


def test_no_room_for_text_is_refused(wordpiece):
    with pytest.raises(ValueError, match="max_length 3 leaves no room"):
        tokenizer_lib.encode(wordpiece, ["a"], ["b"], 3)


def test_missing_tokenizer_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer.json .* found config.json"):
        (tmp_path / "config.json").write_text("{}")
        tokenizer_lib.load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="no tokenizer folder"):
        tokenizer_lib.load_tokenizer(tmp_path / "absent")


def test_equal_texts_share_the_smallest_id():
    assert same_text_ids(["a", "b", " a", "b"], None).tolist() == [0, 1, 0, 1]
    assert same_text_ids(["a", "a", "a", "b"], ["x", "y", "x", "a"]).tolist() == [0, 1, 0, 3]


def test_unlabelled_rows_come_after_the_labelled_ones_and_share_text_ids(wordpiece):
    raw = {"train": RawSplit(["the cat", "a dog", "the mat"], None, [1, None, 0])}
    data = dataset(wordpiece, raw | {"unlabelled": RawSplit(["the cat", "dogs"])})
    train = data.splits["train"]
    assert train.is_labelled.tolist() == [True, True, False, False, False]
    assert train.labels.tolist() == [1, 0, 0, 0, 0]
    assert train.text_ids.tolist() == [0, 1, 2, 0, 4]
    assert (data.info.num_train, data.info.num_labelled) == (5, 2)
    same = dataset(wordpiece, {**raw, "unlabelled": RawSplit(["the cat", "dogs"])})
    assert same.fingerprint == data.fingerprint and "unlabelled" not in same.splits


def test_the_fingerprint_follows_texts_labels_tokenizer_and_length(wordpiece, roberta):
    raw = {"train": RawSplit(["the cat", "a dog"], None, [0, 1])}
    original = dataset(wordpiece, raw).fingerprint
    assert dataset(wordpiece, raw).fingerprint == original
    others = [
        dataset(wordpiece, {"train": RawSplit(["the cat", "a mat"], None, [0, 1])}),
        dataset(wordpiece, {"train": RawSplit(["the cat", "a dog"], None, [1, 0])}),
        dataset(wordpiece, raw, max_length=3),
        dataset(roberta, raw),
    ]
    assert len({original, *(other.fingerprint for other in others)}) == 5


def test_the_fingerprint_follows_whatever_the_tokenizer_does(wordpiece, monkeypatch):
    raw = {"train": RawSplit(["the cat sat on the mat"], ["a dog"], [0])}
    original = dataset(wordpiece, raw, max_length=8).fingerprint
    others = []
    for name, value in (("truncation_side", "left"), ("model_input_names", ["input_ids"])):
        with monkeypatch.context() as patch:
            patch.setattr(wordpiece, name, value)
            others.append(dataset(wordpiece, raw, max_length=8).fingerprint)
    assert len({original, *others}) == 3
    with monkeypatch.context() as patch:  # of no token
        patch.setattr(wordpiece, "padding_side", "left")
        assert dataset(wordpiece, raw, max_length=8).fingerprint == original


def test_a_draw_of_train_examples_is_nested_seeded_and_keeps_unlabelled_rows(wordpiece):
    raw = {"train": RawSplit([f"the cat {i}" for i in range(40)], None, [0, 1] * 20)}

    def drawn(num, seed):
        return dataset(wordpiece, raw | {"unlabelled": RawSplit(["dogs"])}, num_train_examples=num, seed=seed)

    assert drawn(10, 0).info.num_labelled == 10 and drawn(10, 0).info.num_train == 11
    assert drawn(10, 0).fingerprint == drawn(10, 0).fingerprint != drawn(10, 1).fingerprint
    assert drawn(99, 0).info.num_labelled == 40
    with pytest.raises(ValueError, match="num_train_examples=1 of 40 leaves no example of"):
        drawn(1, 0)


def test_pairs_and_single_texts_do_not_mix(wordpiece):
    with pytest.raises(ValueError, match="pairs in train and single texts in dev"):
        dataset(wordpiece, {"train": RawSplit(["a"], ["b"], [0]), "dev": RawSplit(["a"], None, [0])})
