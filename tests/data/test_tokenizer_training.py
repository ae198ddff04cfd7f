"""Tokenizers trained on the spot: layouts, and the same pieces from the same texts."""

import os
import subprocess
import sys

import pytest

from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data import tokenizer_training

TEXTS = ["The cat sat on the mat.", "A dog ran!", "the cats run", "dogs sat; the dog sat"] * 3


@pytest.fixture(scope="module")
def wordpiece():
    return tokenizer_training.train_wordpiece(TEXTS, 80)


def test_wordpiece_has_berts_layout_and_lower_cases(wordpiece):
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert wordpiece.convert_tokens_to_ids(specials) == [0, 1, 2, 3, 4]
    assert wordpiece.pad_token_id == 0 and len(wordpiece) <= 80
    assert wordpiece("THE cat").input_ids == wordpiece("the Cat").input_ids
    assert wordpiece("the cat").tokens() == ["[CLS]", "the", "cat", "[SEP]"]
    assert "[UNK]" in wordpiece("ξ").tokens()


def test_wordpiece_is_the_same_in_another_process_and_order(wordpiece):
    code = (
        "from codir_jax.data.tokenizer_training import train_wordpiece\n"
        f"print(train_wordpiece({TEXTS[::-1]!r}, 80).backend_tokenizer.to_str())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.strip() == wordpiece.backend_tokenizer.to_str()


def test_byte_level_bpe_has_robertas_layout_and_reads_back_from_its_folder(tmp_path):
    trained = tokenizer_training.train_byte_level_bpe(iter(TEXTS), 300)
    tokenizer_lib.save_tokenizer(trained, tmp_path)
    again = tokenizer_lib.load_tokenizer(tmp_path)
    assert again.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]) == [0, 1, 2, 3, 4]
    assert (again.cls_token_id, again.pad_token_id, again.sep_token_id, again.mask_token_id) == (0, 1, 2, 4)
    assert again("The <mask>").input_ids == [*again("The").input_ids[:-1], 4, 2]  # it takes the space before it
    assert again.decode(again("ξ, café").input_ids, skip_special_tokens=True) == "ξ, café"
    assert again.backend_tokenizer.to_str() == trained.backend_tokenizer.to_str()
    with pytest.raises(ValueError, match="need 261"):
        tokenizer_training.train_byte_level_bpe(TEXTS, 260)


def test_byte_level_bpe_is_the_same_in_another_process_and_order():
    code = (
        "from codir_jax.data.tokenizer_training import train_byte_level_bpe\n"
        f"print(train_byte_level_bpe({TEXTS[::-1]!r}, 290).backend_tokenizer.to_str())"
    )
    env = {**os.environ, "RAYON_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.strip() == tokenizer_training.train_byte_level_bpe(TEXTS, 290).backend_tokenizer.to_str()


def test_pieces_are_merged_by_count_and_then_by_text():
    # "##b" + "##c" is in 3 words, "a" + "##b" in 2 and "x" + "##b" in 1; then "a" + "##bc" with 2; ties by text.
    pieces = tokenizer_training._learn_pieces({"abc": 2, "xbc": 1}, 7)
    assert pieces == ["##b", "##c", "a", "x", "##bc", "abc", "xbc"]
