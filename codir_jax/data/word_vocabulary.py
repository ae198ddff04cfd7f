"""Tokenizers of whole words or of single characters, for language models that read from left to right.

`<eos>` (0) closes a line and pads; `<unk>` (1) stands for what the vocabulary has not. Words are what stands between
white space, cased as they are.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from pathlib import Path

from codir_jax.processes.user_error import MissingFileError, UserError

EOS, UNK = "<eos>", "<unk>"
SPECIALS = (EOS, UNK)


def train_words(texts: Iterable[str], vocab_size: int):
    """Returns a tokenizer of the most frequent words, equally frequent ones in the order of their letters.

    Args:
      texts: to count, one at a time.
      vocab_size: entries at most, the two specials included.
    """
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(text.split())
    words = _most_frequent(counts, vocab_size)
    if not words:
        raise UserError(f"the text has no word but {' and '.join(SPECIALS)}")
    return of_words(words)


def train_characters(texts: Iterable[str], vocab_size: int):
    """Returns a tokenizer of the most frequent characters, the space included; arguments as of `train_words`."""
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(text)
    return _tokenizer(_most_frequent(counts, vocab_size), by_character=True)


def of_words(words: Iterable[str]):
    """Returns a tokenizer of a word list, in its order behind the two specials.

    Raises:
      UserError: no word, one with white space in it, or the same one twice.
    """
    listed = [word for word in words if word not in SPECIALS]
    if not listed:
        raise UserError("the word list is empty; give one word a line")
    for word, count in collections.Counter(listed).items():
        if count > 1 or len(word.split()) != 1:
            told = f"is there {count} times" if count > 1 else "has white space in it, or nothing else"
            raise UserError(f"the word list: {word!r} {told}; give each word once, one a line")
    return _tokenizer(listed, by_character=False)


def of_file(path: str):
    """Returns `of_words` of a text file, one word a line.

    Raises:
      UserError: there is no such file, it is no UTF-8, or what `of_words` refuses.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise MissingFileError(f"no file {path!r}; expected one word a line") from error
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}); save it so, one word a line") from error
    return of_words(line.strip() for line in lines if line.strip())


def _most_frequent(counts: collections.Counter, vocab_size: int) -> list[str]:
    room = vocab_size - len(SPECIALS)
    if room < 1:
        raise UserError(f"vocab_size {vocab_size} leaves no room beside {' and '.join(SPECIALS)}; give at least 3")
    for special in SPECIALS:  # a text may have its unknown words marked
        counts.pop(special, None)
    return sorted(counts, key=lambda entry: (-counts[entry], entry))[:room]


def _tokenizer(entries: list[str], *, by_character: bool):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {entry: number for number, entry in enumerate([*SPECIALS, *entries])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=UNK))
    if by_character:
        backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
        backend.decoder = decoders.Fuse()
    else:
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=EOS,
        model_input_names=["input_ids", "attention_mask"],
    )
