"""A model without the words that its texts do not have: of a small student, the word table is most of what is left.

Kept are the tokens of the texts, the special ones, and each character of those tokens, and of ASCII, alone. WordPiece
takes the longest piece that fits, Unigram (sentencepiece) the likeliest row of pieces, so the texts have the same
tokens as before; a word that they do not have is spelled in smaller pieces, and is unknown only if one of its
characters is.
"""

from __future__ import annotations

import dataclasses
import json
import string
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codir_jax.convert.pretrained import Pretrained
from codir_jax.data.splits import RawSplit
from codir_jax.data.tokenizer import encode, load_tokenizer
from codir_jax.models.word_table import WORD_TABLE
from codir_jax.processes.user_error import UserError

TOKENIZER = "tokenizer.json"
# Kinds of tokenizers whose words do not depend on each other. Of a piece that is part of others BPE makes those.
KINDS = ("WordPiece", "Unigram")
# What a piece of Unigram begins with, where a word begins.
_WORD_START = "\u2581"


class Pruned(NamedTuple):
    """Attributes:
    source: the checkpoint with fewer rows. tokenizer: with as many tokens, numbered in the old order.
    kept: old numbers of the tokens, int [n], ascending.
    """

    source: Pretrained
    tokenizer: Any
    kept: np.ndarray


class Spelling(NamedTuple):
    """What other texts look like to the smaller vocabulary.

    Attributes:
      num_texts: of them. num_changed: those with other tokens than before.
      num_tokens, num_unknown: of all, now; num_unknown_before: with the whole vocabulary.
    """

    num_texts: int
    num_changed: int
    num_tokens: int
    num_unknown: int
    num_unknown_before: int

    def __str__(self) -> str:
        return (
            f"{self.num_changed:,} of {self.num_texts:,} dev texts have a word that is spelled in smaller pieces now; "
            f"{self.num_unknown:,} of {self.num_tokens:,} tokens are unknown ({self.num_unknown_before:,} before)"
        )


def check(tokenizer) -> None:
    """Refuses a tokenizer that is not of KINDS.

    Raises:
      UserError: with why.
    """
    kind = type(tokenizer.backend_tokenizer.model).__name__
    if kind not in KINDS:
        raise UserError(
            f"the vocabulary of a {kind} tokenizer cannot be pruned, only that of a WordPiece (BERT) or a Unigram "
            "(XLM-RoBERTa): pieces that are merged from others depend on all of them"
        )


def prune(source: Pretrained, tokenizer, texts: RawSplit) -> Pruned:
    """Returns the model with the vocabulary of the texts.

    Args:
      source: a classifier or sentence encoder. tokenizer: its own, of KINDS.
      texts: to keep the words of, in full.

    Raises:
      UserError: the tokenizer is of another kind.
    """
    check(tokenizer)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = _kept(tokenizer, whole["model"], source.config, texts)
    new = {old: number for number, old in enumerate(kept.tolist())}
    table = source.params
    for name in WORD_TABLE:
        table = table[name]
    params = _with(source.params, WORD_TABLE, np.ascontiguousarray(table[kept]))
    config = dataclasses.replace(source.config, vocab_size=len(kept), pad_token_id=new[source.config.pad_token_id])
    hf_config = {**source.hf_config, "vocab_size": len(kept)}
    hf_config |= {
        key: new[value]
        for key, value in source.hf_config.items()
        if key.endswith("_token_id") and isinstance(value, int) and value in new
    }
    smaller = dataclasses.replace(source, config=config, params=params, hf_config=hf_config)
    return Pruned(smaller, _renumbered(tokenizer, whole, new), kept)


def spelling(before, after: Pruned, texts: RawSplit, max_length: int) -> Spelling:
    """Returns how texts are spelled by the tokenizer `before` and by the smaller one."""
    old, _, old_offsets, _ = encode(before, texts.texts_a, texts.texts_b, max_length)
    new, _, offsets, _ = encode(after.tokenizer, texts.texts_a, texts.texts_b, max_length)
    rows = range(len(texts))
    changed = sum(
        not np.array_equal(after.kept[new[offsets[i] : offsets[i + 1]]], old[old_offsets[i] : old_offsets[i + 1]])
        for i in rows
    )
    unknown, unknown_before = (
        int((ids == of.unk_token_id).sum()) for ids, of in ((new, after.tokenizer), (old, before))
    )
    return Spelling(len(texts), changed, len(new), unknown, unknown_before)


def _kept(tokenizer, model: dict[str, Any], config: Any, texts: RawSplit) -> np.ndarray:
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    seen = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder) | {config.pad_token_id}
    if config.position_offset:  # positions are numbered from the padding's id on, which therefore stays
        seen.update(range(config.pad_token_id))
    for column in (texts.texts_a, texts.texts_b or (), *texts.apart):
        for part in _parts(column):
            seen.update(number for encoding in backend.encode_batch(part) for number in encoding.ids)
    names = _pieces(model)
    numbers = {name: number for number, name in enumerate(names) if name is not None}
    characters = {character for number in seen for character in _at(names, number)}
    characters |= set(string.ascii_letters + string.digits + string.punctuation)
    prefix = _WORD_START if isinstance(model["vocab"], list) else model["continuing_subword_prefix"]
    alone = {name for character in characters for name in (character, prefix + character)}
    if isinstance(model["vocab"], list):
        scores = [score for _, score in model["vocab"]]
        seen.add(int(np.argmin(scores)))  # by which what is unknown is scored
        if model.get("byte_fallback"):
            alone |= {f"<0x{byte:02X}>" for byte in range(256)}
    return np.asarray(sorted(seen | {numbers[name] for name in alone if name in numbers}), np.int64)


def _pieces(model: dict[str, Any]) -> list[str | None]:
    """The pieces by their numbers, None where a number has none."""
    if isinstance(model["vocab"], list):  # Unigram: [piece, score] each
        return [piece for piece, _ in model["vocab"]]
    found: list[str | None] = [None] * (1 + max(model["vocab"].values(), default=-1))
    for piece, number in model["vocab"].items():
        found[number] = piece
    return found


def _at(names: Sequence[str | None], number: int) -> str:
    return (names[number] or "") if number < len(names) else ""


def _parts(column: Sequence[str], size: int = 4096) -> Iterable[list[str]]:
    return (list(column[start : start + size]) for start in range(0, len(column), size))


def _renumbered(tokenizer, whole: dict[str, Any], new: dict[int, int]):
    """The tokenizer with the kept tokens alone, read back from its files."""
    model = whole["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [piece for number, piece in enumerate(model["vocab"]) if number in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = {name: new[number] for name, number in model["vocab"].items() if number in new}
    for token in whole["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber_specials(whole["post_processor"], new)
    whole["padding"] = whole["truncation"] = None
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / TOKENIZER).write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
        for stale in ("vocab.txt", "added_tokens.json", "sentencepiece.bpe.model"):
            (Path(folder) / stale).unlink(missing_ok=True)
        told = Path(folder) / "tokenizer_config.json"
        config = json.loads(told.read_text(encoding="utf-8"))
        if "added_tokens_decoder" in config:
            config["added_tokens_decoder"] = {
                str(new[int(number)]): token for number, token in config["added_tokens_decoder"].items()
            }
        told.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
        return load_tokenizer(folder)


def _renumber_specials(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """What puts special tokens around a text: BERT's own, or a template."""
    if processor is None:
        return
    for key in ("sep", "cls"):
        if key in processor:
            processor[key][1] = new[processor[key][1]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[number] for number in token["ids"]]
    for inner in processor.get("processors", ()):
        _renumber_specials(inner, new)


def _with(tree, path, leaf):
    name, *rest = path
    return {**tree, name: _with(tree[name], rest, leaf) if rest else leaf}
