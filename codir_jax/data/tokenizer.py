"""Fast tokenizers: read from a folder or the hub, applied to whole splits at once, written."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codir_jax.processes import json_text, quiet
from codir_jax.processes.user_error import MissingFileError, UserError

# Texts of one call to the tokenizer: its working set is ~100 bytes a token, freed between calls.
_TEXTS_PER_CALL = 16384


def load_tokenizer(path_or_name: str | os.PathLike, vocab_size: int | None = None):
    """Returns the fast transformers tokenizer of a local folder or of a hub name. Code of the repository is never run.

    Args:
      vocab_size: words of the model that reads its tokens; None where no model is known yet.

    Raises:
      MissingFileError: the folder or its tokenizer files are missing, or the hub has no such model (or no network).
      UserError: the tokenizer is damaged, has no fast implementation or no pad token, or has ids beyond the vocabulary.
    """
    with quiet.advice():
        from transformers import AutoTokenizer

    name = os.fspath(path_or_name)
    folder = Path(name)
    if folder.is_dir():
        _check_folder(folder)
    elif folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or folder.exists():
        raise MissingFileError(
            f"no tokenizer folder {name}: expected a folder with tokenizer.json (and tokenizer_config.json), "
            "or a hub name such as roberta-base"
        )
    try:
        with quiet.loggers("transformers"):  # it warns of model types that it has not, such as "lstm"
            tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
    except OSError as error:
        raise MissingFileError(
            f"no tokenizer {name!r}: it is no local folder and could not be had from the hub ({_first_line(error)}); "
            "give a local folder, or a hub name where there is a network"
        ) from error
    except Exception as error:  # of many kinds: JSON, wrong types, and a bare Exception of the library `tokenizers`
        raise UserError(
            f"tokenizer {name!r} cannot be read: {_broken_file(folder) or _first_line(error)}; fetch its files again"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(f"tokenizer {name!r} has no fast implementation; save it as tokenizer.json with `tokenizers`")
    if tokenizer.pad_token_id is None:
        raise UserError(f"tokenizer {name!r} has no pad token; set pad_token in its tokenizer_config.json")
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or isinstance(longest, bool) or not longest >= 1:
        raise UserError(
            f"tokenizer {name!r}: expected model_max_length in tokenizer_config.json to be a number of tokens, at "
            f"least 1, got {longest!r}"
        )
    if vocab_size is not None:
        check_ids(tokenizer, vocab_size, name)
    return tokenizer


def check_ids(tokenizer, vocab_size: int, model: str) -> None:
    """Refuses a tokenizer that makes ids which `model`, of so many words, has not.

    Raises:
      UserError: with the token, its id, and what to do.
    """
    known = tokenizer.get_vocab()
    # What is put round a text has its ids in the template, whatever the vocabulary says of it.
    round_a_text = tokenizer.backend_tokenizer.encode("", "").ids
    largest = max((*known.values(), *round_a_text), default=0)
    if largest >= vocab_size:
        token = next((token for token, number in known.items() if number == largest), "the template of a text")
        raise UserError(
            f"the tokenizer has ids up to {largest} ({token!r}), and the model {model} only {vocab_size} words, "
            "0 to vocab_size - 1: they do not belong together; give the model its own tokenizer's files"
        )


def encode(
    tokenizer, texts_a: Sequence[str], texts_b: Sequence[str] | None, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns all texts (pairs) as token ids with specials, cut to max_length; of a pair the longer text is cut first.

    Args:
      tokenizer: fast transformers tokenizer.
      texts_a: n texts.
      texts_b: n second texts of pairs, or None.
      max_length: tokens of an example at most, specials included.

    Returns:
      (tokens int32 [total], token_types int8 [total], offsets int64 [n + 1], number of texts that were cut). Token
      types are zeros where the model has none (RoBERTa).
    """
    check_room(tokenizer, max_length, is_pair=texts_b is not None)
    backend, has_types = tokenizer.backend_tokenizer, "token_type_ids" in tokenizer.model_input_names
    *arrays, is_cut = encode_by(backend, texts_a, texts_b, max_length, tokenizer.truncation_side, has_types)
    return (*arrays, int(is_cut.sum()))


def check_room(tokenizer, max_length: int, *, is_pair: bool) -> None:
    """Refuses a max_length that leaves no room for text."""
    num_special = tokenizer.num_special_tokens_to_add(pair=is_pair)
    if max_length <= num_special:
        raise UserError(f"max_length {max_length} leaves no room for text beside {num_special} special tokens")


def encode_by(
    backend, texts_a, texts_b, max_length: int, truncation_side: str, has_types: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns what `encode` returns, but for which texts were cut: bool [n].

    Args:
      backend: of the `tokenizers` library. has_types: the model knows token types. Others as of `encode`.
    """
    tokens, types, lengths, is_cut = [], [], [], []
    # The tokenizer's own call, which does the same, spends a third of the time on lists that are not needed here.
    backend.no_padding()
    backend.enable_truncation(max_length, strategy="longest_first", direction=truncation_side)
    for start in range(0, len(texts_a), _TEXTS_PER_CALL):
        part = slice(start, start + _TEXTS_PER_CALL)
        texts = texts_a[part] if texts_b is None else zip(texts_a[part], texts_b[part], strict=True)
        encodings = backend.encode_batch(list(texts))
        ids = [encoding.ids for encoding in encodings]
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        total = int(counts.sum())
        lengths.append(counts)
        tokens.append(np.fromiter(itertools.chain.from_iterable(ids), np.int32, total))
        if has_types:
            type_ids = itertools.chain.from_iterable(encoding.type_ids for encoding in encodings)
            types.append(np.fromiter(type_ids, np.int8, total))
        else:
            types.append(np.zeros(total, np.int8))
        is_cut.append(np.fromiter((bool(encoding.overflowing) for encoding in encodings), bool, len(encodings)))
    offsets = np.zeros(len(texts_a) + 1, np.int64)
    if len(texts_a):
        np.cumsum(np.concatenate(lengths), out=offsets[1:])
    tokens = np.concatenate(tokens) if tokens else np.zeros(0, np.int32)
    types = np.concatenate(types) if types else np.zeros(0, np.int8)
    return tokens, types, offsets, np.concatenate(is_cut) if is_cut else np.zeros(0, bool)


def state(tokenizer) -> str:
    """Returns the whole tokenizer as JSON, for fingerprints."""
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set anew at each call, so what is left of the last call is no property of the tokenizer.
    return json.dumps({key: value for key, value in whole.items() if key not in ("truncation", "padding")})


def save_tokenizer(tokenizer, folder: str | os.PathLike, max_length: int | None = None) -> None:
    """Writes tokenizer.json, tokenizer_config.json and what else the tokenizer has into `folder`.

    Args:
      max_length: tokens to which whoever serves the folder cuts a text; None: as the tokenizer has it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    # What the last call to `encode` left is of that call.
    backend, before = tokenizer.backend_tokenizer, tokenizer.model_max_length
    backend.no_padding()
    backend.no_truncation()
    if max_length:
        tokenizer.model_max_length = max_length
        backend.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    try:
        tokenizer.save_pretrained(os.fspath(folder))
    finally:
        tokenizer.model_max_length = before


def served_length(tokenizer, longest: int) -> int:
    """Tokens to which texts are cut where the tokenizer's folder is served; `longest`: that the model takes."""
    return int(min(tokenizer.model_max_length, longest))  # 1e30 where a tokenizer has none


def _check_folder(folder: Path) -> None:
    needed = ("tokenizer.json", "vocab.txt", "vocab.json")
    if not any((folder / name).is_file() for name in needed):
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise MissingFileError(
            f"no tokenizer in {folder}: expected tokenizer.json (or vocab.txt, or vocab.json with merges.txt), found "
            f"{present}; copy the model's tokenizer files there"
        )


def _broken_file(folder: Path) -> str:
    """Which JSON file of a tokenizer's folder is none, in words; "" where all are."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            if not isinstance(json_text.parse(path.read_text(encoding="utf-8"), allow_nan=True), dict):
                return f"{path} holds no JSON object"
        except (json_text.JsonError, OSError, UnicodeDecodeError) as error:
            return f"{path}: {error}"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
