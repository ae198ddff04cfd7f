"""Vocabularies of words and of characters."""

import pytest

from codir_jax.data import word_vocabulary
from codir_jax.data.tokenizer import load_tokenizer, save_tokenizer
from codir_jax.main import main
from codir_jax.processes.user_error import UserError

TEXTS = ["the cat <unk> the", "a cat The", "<eos> zebra"]


def test_words_are_ordered_by_count_then_by_letters():
    tokenizer = word_vocabulary.train_words(TEXTS, 6)
    assert tokenizer.convert_ids_to_tokens(range(6)) == ["<eos>", "<unk>", "cat", "the", "The", "a"]
    assert len(tokenizer) == 6 and tokenizer.pad_token_id == tokenizer.eos_token_id == 0
    assert tokenizer("the  zebra a", add_special_tokens=False)["input_ids"] == [3, 1, 5]


def test_characters_keep_the_space_and_decode_to_the_text():
    tokenizer = word_vocabulary.train_characters(["ab ba", "a\u00e9"], 100)
    ids = tokenizer("ba \u00e9?", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["b", "a", " ", "\u00e9", "<unk>"]
    assert tokenizer.decode(ids[:4]) == "ba \u00e9"


def test_a_saved_vocabulary_is_read_as_it_was(tmp_path):
    tokenizer = word_vocabulary.of_words(["b", "a"])
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab() == {"<eos>": 0, "<unk>": 1, "b": 2, "a": 3}
    assert (again.eos_token, again.unk_token, again.pad_token) == ("<eos>", "<unk>", "<eos>")


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "the word list is empty"), (["a", "a"], "'a' is there 2 times"), (["a b"], "'a b' has white space in it")],
)
def test_a_word_list_that_cannot_be_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        word_vocabulary.of_words(words)
    with pytest.raises(UserError, match="leaves no room"):
        word_vocabulary.train_words(TEXTS, 2)


def test_the_command_takes_a_text_or_a_word_list(tmp_path, capsys):
    text, words = tmp_path / "text.txt", tmp_path / "words.txt"
    text.write_text("the cat\nthe dog\n", encoding="utf-8")
    words.write_text("\ufeffdog\r\ncat", encoding="utf-8")
    for name, flag in (("a", f"--sources={text}"), ("b", f"--words={words}")):
        assert main(["tokenizer", flag, "--kind=word", f"--output={tmp_path / name}"]) == 0
    vocab = {name: load_tokenizer(tmp_path / name).get_vocab() for name in "ab"}
    assert vocab == {
        "a": {"<eos>": 0, "<unk>": 1, "the": 2, "cat": 3, "dog": 4},
        "b": {"<eos>": 0, "<unk>": 1, "dog": 2, "cat": 3},
    }
    for flags, message in (
        ([], "give either --sources"),
        ([f"--words={words}", "--kind=character"], "--words is a list for --kind=word"),
        ([f"--words={tmp_path / 'none'}", "--kind=word"], "one word a line"),
    ):
        assert main(["tokenizer", *flags, f"--output={tmp_path / 'c'}"]) == 2
        assert message in capsys.readouterr().err
