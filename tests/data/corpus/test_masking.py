"""Exact counts, 80/10/10, what is never touched, whole words, and what the masks depend on."""

import numpy as np
import pytest

from codir_jax.data.corpus import masking as masking_lib

LENGTH = 102  # 100 tokens between two specials


@pytest.fixture
def masking(wordpiece):
    return masking_lib.masking_of(wordpiece, rate=0.15, whole_word=False)


def chunk(masking, length=LENGTH, seed=0):
    body = np.random.default_rng(seed).choice(masking.replacements, length - 2)
    return np.concatenate([[2], body, [3]]).astype(np.int32)


def draws(tokens, masking, count=400):
    return [masking_lib.mask(tokens, masking_lib.generator(7, 0, i), masking) for i in range(count)]


@pytest.mark.parametrize(("length", "expected"), [(102, 15), (3, 1), (12, 2), (128, 19)])
def test_the_number_of_masked_tokens_is_exact(length, expected, masking):
    tokens = chunk(masking, length)
    for masked, positions, labels in draws(tokens, masking, 20):
        assert len(positions) == len(set(positions.tolist())) == expected == masking_lib.num_masked(length - 2, 0.15)
        assert (np.diff(positions) > 0).all() and (labels == tokens[positions]).all()
        untouched = np.delete(np.arange(length), positions)
        assert (masked[untouched] == tokens[untouched]).all()
        assert positions.dtype == labels.dtype == masked.dtype == np.int32


def test_eighty_ten_ten_and_every_position_alike(masking):
    tokens = chunk(masking)
    kinds, hits = np.zeros(3), np.zeros(LENGTH)
    for masked, positions, labels in draws(tokens, masking, 2000):
        now = masked[positions]
        is_mask, is_same = now == masking.mask_token_id, now == labels
        kinds += [is_mask.sum(), (~is_mask & ~is_same).sum(), is_same.sum()]
        hits[positions] += 1
    total = kinds.sum()
    assert total == 2000 * 15
    # A random token is the old one with 1/k.
    same = 1 / len(masking.replacements)
    shares = np.array([0.8, 0.1 * (1 - same), 0.1 + 0.1 * same])
    np.testing.assert_allclose(kinds / total, shares, atol=4 * np.sqrt(0.16 / total))
    np.testing.assert_allclose(hits[1:-1] / 2000, 0.15, atol=5 * np.sqrt(0.15 * 0.85 / 2000))
    assert hits[0] == hits[-1] == 0


def test_specials_are_never_masked_and_never_drawn(masking, wordpiece):
    tokens = chunk(masking)
    tokens[5:9] = wordpiece.unk_token_id, wordpiece.sep_token_id, wordpiece.mask_token_id, wordpiece.pad_token_id
    seen = set()
    for masked, positions, _ in draws(tokens, masking):
        assert not set(positions.tolist()) & {0, 5, 6, 7, 8, LENGTH - 1}
        changed = masked[positions]
        seen |= set(changed[changed != masking.mask_token_id].tolist())
    assert not seen & set(wordpiece.all_special_ids)
    assert seen == set(masking.replacements.tolist())  # uniform: in 600 random draws each of some 50 comes


def test_a_chunk_of_specials_alone_has_no_masks(masking):
    masked, positions, labels = masking_lib.mask(np.asarray([2, 1, 3], np.int32), np.random.default_rng(0), masking)
    assert masked.tolist() == [2, 1, 3] and len(positions) == len(labels) == 0


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level"])
def test_whole_words_are_masked_whole_or_not_at_all(kind, request):
    tokenizer = request.getfixturevalue(kind)
    masking = masking_lib.masking_of(tokenizer, rate=0.3, whole_word=True)
    text = "lantern the walked old tomorrow laughter sea slowly xylophone young"
    tokens = np.asarray(tokenizer(text).input_ids, np.int32)
    words = np.asarray([-1 if word is None else word for word in tokenizer(text).word_ids()])
    assert (np.bincount(words[words >= 0]) > 1).any()  # some word has several pieces
    limit = masking_lib.num_masked(int((~masking.is_special[tokens]).sum()), 0.3)
    counts = []
    for _, positions, _ in draws(tokens, masking, 100):
        counts.append(len(positions))
        for word in set(words[positions].tolist()):
            assert set(np.flatnonzero(words == word)) <= set(positions.tolist())
    # What is left over is less than the shortest word that is left.
    assert limit - np.bincount(words[words >= 0]).max() < min(counts) and max(counts) <= limit


def test_a_word_longer_than_the_number_is_masked_in_part(wordpiece):
    masking = masking_lib.masking_of(wordpiece, rate=0.15, whole_word=True)
    begin, middle = (np.flatnonzero(masking.is_word_start == k)[-1] for k in (True, False))
    tokens = np.asarray([2, begin, middle, middle, 3], np.int32)
    _, positions, _ = masking_lib.mask(tokens, masking_lib.generator(0, 0, 0), masking)
    assert positions.tolist() == [1]


def test_masks_depend_on_seed_epoch_and_chunk_and_on_nothing_else(masking):
    tokens = chunk(masking)

    def positions(*key):
        return masking_lib.mask(tokens, masking_lib.generator(*key), masking)[1].tolist()

    assert positions(1, 2, 3) == positions(1, 2, 3)
    others = [positions(0, 2, 3), positions(1, 0, 3), positions(1, 2, 0), positions(2, 1, 3), positions(3, 2, 1)]
    assert positions(1, 2, 3) not in others and len(set(map(tuple, others))) == 5
