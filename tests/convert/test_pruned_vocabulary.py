"""A model with the words of its texts alone: the same tokens, the same answers, fewer rows."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, XLMRobertaTokenizer

from codir_jax.convert import export, pretrained, pruned_vocabulary
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.data.splits import RawSplit
from codir_jax.data.tokenizer import encode, save_tokenizer
from codir_jax.data.tokenizer_training import train_byte_level_bpe, train_wordpiece
from codir_jax.models import bert, heads, xlm_roberta
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

TEXTS = ["the cats sleep on the table", "a dog sees the unhappiest cats", "keys!", "tables and dogs, naïve"]
OTHERS = ["the birds sing and fly", "zoo 7 \u4e2d", "cats sleep on tables"]


@pytest.fixture(scope="module")
def pruned():
    """(checkpoint, tokenizer of many words, the pruned ones)."""
    tokenizer = train_wordpiece([*TEXTS, *OTHERS, "birds singing flying xylophone quiz"] * 5, 400)
    config = dataclasses.replace(bert.FAMILY.sizes["tiny"], vocab_size=len(tokenizer), pad_token_id=0)
    params = unbox(heads.init_params(heads.build_model(config, "classification", 2), jax.random.key(0)))
    params = jax.tree.map(np.asarray, params)
    source = pretrained.Pretrained(
        config, params, {"pad_token_id": 0, "model_type": "bert"}, True, None, 2, False, None, "", ()
    )
    return source, tokenizer, pruned_vocabulary.prune(source, tokenizer, RawSplit(TEXTS))


def test_the_texts_have_the_same_tokens_and_answers(pruned):
    source, tokenizer, made = pruned
    assert len(made.kept) < len(tokenizer) and made.source.config.vocab_size == len(made.kept) == len(made.tokenizer)
    old, types, offsets, _ = encode(tokenizer, TEXTS, None, 64)
    new, _, new_offsets, _ = encode(made.tokenizer, TEXTS, None, 64)
    np.testing.assert_array_equal(offsets, new_offsets)
    np.testing.assert_array_equal(made.kept[new], old)
    answers = [
        export.answers_of(model, "classification", [ids[None], np.ones_like(ids[None]), types[None].astype(np.int32)])
        for model, ids in ((source, old), (made.source, new))  # all texts as one
    ]
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_other_words_are_spelled_in_smaller_pieces_and_counted(pruned):
    """The letters of "birds" are known; a character that no text has is unknown now, and was not before."""
    _, tokenizer, made = pruned
    assert "birds" not in made.tokenizer.get_vocab() and "birds" in tokenizer.get_vocab()
    told = pruned_vocabulary.spelling(tokenizer, made, RawSplit(OTHERS), 64)
    assert (told.num_texts, told.num_changed) == (3, 2) and told.num_unknown == 1 and told.num_unknown_before == 0
    assert "2 of 3 dev texts" in str(told)
    assert pruned_vocabulary.spelling(tokenizer, made, RawSplit(TEXTS), 64).num_changed == 0
    assert made.tokenizer.unk_token not in made.tokenizer.tokenize("Quiz xylophone")  # ASCII is spelled


def test_a_folder_of_it_is_read_by_transformers_and_by_us(pruned, tmp_path):
    _, tokenizer, made = pruned
    save_pretrained(tmp_path, made.source.config, made.source.params, hf_config=made.source.hf_config)
    save_tokenizer(made.tokenizer, tmp_path, 32)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(TEXTS)["input_ids"] == made.tokenizer(TEXTS)["input_ids"]
    assert (theirs.pad_token_id, theirs.unk_token, theirs.cls_token) == (0, "[UNK]", "[CLS]")
    assert theirs.convert_ids_to_tokens(theirs("keys!")["input_ids"]) == tokenizer.convert_ids_to_tokens(
        tokenizer("keys!")["input_ids"]
    )
    again = load_pretrained(tmp_path)
    assert again.config.vocab_size == len(made.kept) == json.loads((tmp_path / "config.json").read_text())["vocab_size"]
    assert not (tmp_path / "vocab.txt").exists() or len((tmp_path / "vocab.txt").read_text().split()) == len(made.kept)


@pytest.fixture(scope="module")
def unigram():
    """XLM-RoBERTa's tokenizer with a vocabulary of its own, and a model of it."""
    words = ["the", "cats", "cat", "sleep", "on", "table", "tables", "dog", "sees", "birds", "sing", "fly", "zoo"]
    pieces = [(f"\u2581{word}", -float(i + 4)) for i, word in enumerate(words)]
    pieces += [(letter, -20.0 - i) for i, letter in enumerate("\u2581stabcdefghijklmnopqruvwxyz")]
    specials = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = XLMRobertaTokenizer(vocab=[*specials, *pieces, ("\u0436", -99.0), ("<mask>", 0.0)])
    config = xlm_roberta.FAMILY.from_scratch(
        len(tokenizer), 1, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8, max_positions=40
    )
    params = jax.tree.map(np.asarray, unbox(heads.init_params(heads.build_model(config), jax.random.key(0))))
    hf_config = xlm_roberta.FAMILY.write_config(config)
    return pretrained.Pretrained(config, params, hf_config, True, None, 2, False, None, "", ()), tokenizer


def test_the_likeliest_pieces_stay_so_without_the_others(unigram, tmp_path):
    """Unknown characters included: their score is that of the unlikeliest piece, less ten."""
    source, tokenizer = unigram
    texts = ["the cats sleep on the table", "the \u4e2d\u4e2d cats \u4e2d"]
    made = pruned_vocabulary.prune(source, tokenizer, RawSplit(texts))
    names = tokenizer.get_vocab()
    assert {"\u2581birds", "\u2581cat", "\u2581tables"} <= names.keys() - made.tokenizer.get_vocab().keys()
    assert made.kept[-1] == names["<mask>"] and made.source.config.pad_token_id == 1
    assert names["\u0436"] in made.kept  # the unlikeliest piece
    new, *_ = encode(made.tokenizer, texts, None, 64)
    old, *_ = encode(tokenizer, texts, None, 64)
    np.testing.assert_array_equal(made.kept[new], old)
    assert (old == tokenizer.unk_token_id).sum() == 2
    tables = (model.params["encoder"]["embeddings"]["word"]["embedding"] for model in (made.source, source))
    np.testing.assert_array_equal(next(tables), next(tables)[made.kept])
    told = pruned_vocabulary.spelling(tokenizer, made, RawSplit([*texts, "the birds sing", "a zoo"]), 64)
    assert told.num_changed == 2 and told.num_unknown == told.num_unknown_before == 2
    save_pretrained(tmp_path, made.source.config, made.source.params, hf_config=made.source.hf_config)
    save_tokenizer(made.tokenizer, tmp_path, 32)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts)["input_ids"] == made.tokenizer(texts)["input_ids"]
    assert (theirs.mask_token_id, theirs.unk_token_id) == (len(made.kept) - 1, 3)
    assert load_pretrained(tmp_path).config == made.source.config


def test_unknown_and_padding_stay_what_they_are_wherever_they_are(unigram):
    """The unknown token is the last one, and positions are numbered from the padding's number on, which is 2."""
    source, of_xlm = unigram
    pieces = [tuple(piece) for piece in json.loads(of_xlm.backend_tokenizer.to_str())["model"]["vocab"][4:-1]]
    pieces = [*pieces[:2], ("<pad>", 0.0), *pieces[2:], ("<unk>", 0.0)]
    core = Tokenizer(models.Unigram(pieces, unk_id=len(pieces) - 1))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>")
    config = dataclasses.replace(source.config, pad_token_id=2, position_offset=3)
    made = pruned_vocabulary.prune(dataclasses.replace(source, config=config), tokenizer, RawSplit(["sleep \u4e2d"]))
    assert made.source.config.pad_token_id == made.tokenizer.pad_token_id == 2
    assert len(made.kept) < len(tokenizer)
    new, old = (one.backend_tokenizer.encode("sleep \u4e2d").ids for one in (made.tokenizer, tokenizer))
    assert made.kept[new].tolist() == old and old[-1] == len(pieces) - 1


def test_other_tokenizers_are_refused(pruned):
    with pytest.raises(UserError, match="a BPE tokenizer cannot be pruned"):
        pruned_vocabulary.prune(pruned[0], train_byte_level_bpe(TEXTS, 300), RawSplit(TEXTS))
