"""One unit of text as a shard of a token stream: a folder with its tokens and a table of its lines.

tokens.bin   the ids of every line, each closed by the end-of-line token, little-endian uint16 or uint32
lines.npy    uint32 [lines, 4]: tokens, words, characters and unknown tokens of each line; its end counts as a word
             and as a character
unit.json    num_tokens, num_lines, digest
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codir_jax.data.corpus import documents
from codir_jax.data.corpus.shards import backend_of
from codir_jax.data.corpus.sources import Unit
from codir_jax.data.shards import folder as shard_folder
from codir_jax.processes.user_error import UserError

TOKENS_FILE, LINES_FILE = "tokens.bin", "lines.npy"
COUNTS = ("tokens", "words", "characters", "unknown")

_LINES_PER_CALL = 1 << 14


@dataclasses.dataclass(frozen=True)
class Reading:
    """How text becomes a stream.

    Attributes:
      tokenizer: the `tokenizers` state as JSON.
      eos_token_id: closes a line.
      unk_token_id: of words that the vocabulary has not; -1 where every text can be written.
      dtype: of the tokens on disk, "<u2" or "<u4".
      text_field: of .jsonl.
      keep_empty_lines: an empty line is one token.
    """

    tokenizer: str
    eos_token_id: int
    unk_token_id: int
    dtype: str
    text_field: str
    keep_empty_lines: bool


def eos_token_id(tokenizer) -> int:
    """Returns the id that closes a line: the tokenizer's end-of-sentence token, or its separator.

    Raises:
      UserError: it has neither.
    """
    for found in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if found is not None:
            return int(found)
    raise UserError(
        "a language model needs a tokenizer with an eos or a sep token, which closes a line; this one has neither: set "
        "eos_token in tokenizer_config.json, or make one with `codir tokenizer --kind=word`"
    )


def reading_of(tokenizer, state: str, config) -> Reading:
    """Returns the Reading of a fast transformers tokenizer with state `state`, for a data section.

    Raises:
      UserError: as `eos_token_id`.
    """
    largest = max(tokenizer.get_vocab().values())
    unknown = tokenizer.unk_token_id
    return Reading(
        state,
        eos_token_id(tokenizer),
        -1 if unknown is None else int(unknown),
        "<u2" if largest < 1 << 16 else "<u4",
        config.text_field,
        config.keep_empty_lines,
    )


def write(unit: Unit, folder: Path, reading: Reading) -> list[str]:
    """Tokenises a unit into `folder`/unit.name, which appears whole by a rename.

    Returns:
      Problems of the text; with any, nothing is written.
    """
    return shard_folder.write(folder, unit.name, functools.partial(_write, unit, reading))


def encode_lines(backend, lines: list[str], reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ids [tokens], counts uint32 [lines, 4], of COUNTS) of lines whose words are one space apart.

    Args:
      backend: of `corpus.shards.backend_of`.
    """
    encodings = backend.encode_batch_fast(lines, add_special_tokens=False)
    ids = [np.asarray([*encoding.ids, reading.eos_token_id], reading.dtype) for encoding in encodings]
    counts = [
        (len(own), len(line.split()) + 1, len(line) + 1, int(np.count_nonzero(own == reading.unk_token_id)))
        for line, own in zip(lines, ids, strict=True)
    ]
    return np.concatenate(ids), np.asarray(counts, np.uint32)


def _write(unit: Unit, reading: Reading, place: Path) -> dict | list[str]:
    problems: list[str] = []
    tables, digest, num_tokens = [np.zeros((0, len(COUNTS)), np.uint32)], hashlib.sha256(), 0
    backend = backend_of(reading.tokenizer)
    with open(place / TOKENS_FILE, "wb") as file:
        for lines in _some(documents.lines(unit, reading.text_field, problems), reading.keep_empty_lines):
            if problems:  # read on for more of them, for nothing else
                continue
            ids, counts = encode_lines(backend, lines, reading)
            data = ids.tobytes()
            file.write(data)
            digest.update(data)
            tables.append(counts)
            num_tokens += len(ids)
    if problems:
        return problems
    table = np.concatenate(tables)
    np.save(place / LINES_FILE, table)
    return {"num_tokens": num_tokens, "num_lines": len(table), "digest": digest.hexdigest()}


def _some(lines: Iterator[str], keep_empty: bool) -> Iterator[list[str]]:
    """Lines in groups that are tokenised in one call."""
    waiting: list[str] = []
    for line in lines:
        if line or keep_empty:
            waiting.append(line)
        if len(waiting) == _LINES_PER_CALL:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
