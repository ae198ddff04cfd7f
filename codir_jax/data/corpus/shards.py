"""One unit of text as a shard of packed chunks: a folder with an array_record, a table of its chunks and its facts.

    tokens.array_record   a record a chunk: its token ids, specials included, little-endian uint16 or uint32
    chunks.npy            CHUNK [n]: document (from 0 in the unit), length, 64-bit hash of the record
    unit.json             counts, digest, how the unit joins its neighbours

Chunks are packed inside documents: every one is full but the last of a document (and of a byte range of a large file,
where the document goes on in the next unit). Workers import numpy, tokenizers and array_record only, so that they start
at once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from array import array
from pathlib import Path

import numpy as np

from codir_jax.data.corpus import documents
from codir_jax.data.corpus.sources import Unit
from codir_jax.data.shards import array_records
from codir_jax.data.shards import folder as shard_folder
from codir_jax.processes.user_error import CannotWriteError, UserError

CHUNK = np.dtype([("document", "<i4"), ("length", "<i4"), ("text", "<u8")])
TOKENS_FILE, CHUNKS_FILE = "tokens.array_record", "chunks.npy"

NUM_SPECIAL = 2  # tokens of a chunk that are no text: [CLS] and [SEP]
_CHARACTERS_PER_CALL = 1 << 20


@dataclasses.dataclass(frozen=True)
class Packing:
    """How text becomes chunks.

    Attributes:
      tokenizer: the `tokenizers` state as JSON.
      cls_token_id: opens a chunk ([CLS], <s>).
      sep_token_id: closes it ([SEP], </s>).
      max_length: tokens of a chunk at most, specials included.
      dtype: of a record, "<u2" or "<u4".
      boundary: what ends a document of .txt.
      text_field: of .jsonl.
    """

    tokenizer: str
    cls_token_id: int
    sep_token_id: int
    max_length: int
    dtype: str
    boundary: str
    text_field: str


def packing_of(tokenizer, state: str, *, max_length: int, boundary: str, text_field: str) -> Packing:
    """Returns the Packing of a fast transformers tokenizer with state `state` (data/dataset.py).

    Raises:
      UserError: it lacks a mask, cls, sep or pad token.
    """
    missing = [name for name in ("mask", "cls", "sep", "pad") if getattr(tokenizer, f"{name}_token_id") is None]
    if missing:
        raise UserError(
            f"a masked language model needs a tokenizer with mask, cls, sep and pad tokens; this one has no "
            f"{', '.join(missing)} token; set it in tokenizer_config.json, or train one with `codir tokenizer`"
        )
    largest = max(tokenizer.get_vocab().values())
    return Packing(
        state,
        int(tokenizer.cls_token_id),
        int(tokenizer.sep_token_id),
        max_length,
        "<u2" if largest < 1 << 16 else "<u4",
        boundary,
        text_field,
    )


def write(unit: Unit, packing: Packing, folder: Path) -> list[str]:
    """Tokenises a unit into `folder`/unit.name, which appears whole by a rename.

    Returns:
      Problems of the text; with any, nothing is written.
    """
    return shard_folder.write(folder, unit.name, functools.partial(_write, unit, packing))


def _write(unit: Unit, packing: Packing, place: Path) -> dict | list[str]:
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    problems: list[str] = []
    path = str(place / TOKENS_FILE)
    writer = ArrayRecordWriter(path, array_records.WRITER_OPTIONS)
    packer = _Packer(packing, writer)
    try:
        for is_new, ids in _tokens(unit, packing, problems):
            if is_new:
                packer.close_document()
            packer.add(ids)
        packer.flush()
    finally:
        writer.close()
    if problems:
        return problems

    count = len(packer.lengths)
    if ArrayRecordReader(path).num_records() != count:
        raise CannotWriteError(f"{path} is not whole after writing; is the disk full?")
    table = np.zeros(count, CHUNK)
    table["document"], table["length"] = packer.documents, packer.lengths
    table["text"] = packer.texts
    np.save(place / CHUNKS_FILE, table)
    return {
        "num_chunks": count,
        "num_documents": packer.num_documents,
        "num_tokens": int(table["length"].sum()) - count * NUM_SPECIAL,
        "continues": packer.continues,
        "has_boundary": packer.has_boundary,
        "is_open": packer.is_numbered,
        "digest": packer.digest.hexdigest(),
    }


def _tokens(unit: Unit, packing: Packing, problems: list[str]):
    """Yields (is_new, ids) in the order of the unit's events, many pieces tokenised in a call."""
    backend = backend_of(packing.tokenizer)
    waiting: list[documents.Event] = []
    size, is_first = 0, unit.parts == () or unit.parts[0].start == 0
    for is_new, text in documents.events(unit, packing.boundary, packing.text_field, problems):
        if problems:  # read on for more of them, for nothing else
            continue
        if is_new:
            waiting.append((True, ""))
            is_first = True
        if text:
            # Behind other text of the document, so that a word keeps the space before it (byte-level vocabularies).
            waiting.append((False, text if is_first else f" {text}"))
            is_first = False
            size += len(text)
        if size >= _CHARACTERS_PER_CALL:
            yield from _encode(backend, waiting)
            waiting, size = [], 0
    if not problems:
        yield from _encode(backend, waiting)


def _encode(backend, waiting: list[documents.Event]):
    encodings = iter(backend.encode_batch_fast([text for _, text in waiting if text], add_special_tokens=False))
    for is_new, text in waiting:
        yield is_new, next(encodings).ids if text else []


@functools.lru_cache(maxsize=1)
def backend_of(state: str):
    """Returns the `tokenizers` object of a state, which takes any text as text and cuts nothing."""
    # One thread a process: the processes are the parallelism.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(state)
    backend.no_truncation()
    backend.no_padding()
    # "[SEP]" or "</s>" in a text is text.
    backend.encode_special_tokens = True
    return backend


class _Packer:
    """Cuts the tokens of documents into chunks and writes them."""

    def __init__(self, packing: Packing, writer):
        self.prefix = np.asarray(packing.cls_token_id, packing.dtype).tobytes()
        self.suffix = np.asarray(packing.sep_token_id, packing.dtype).tobytes()
        self.body = packing.max_length - NUM_SPECIAL
        self.dtype = np.dtype(packing.dtype)
        self.writer = writer
        self.rest = np.zeros(0, self.dtype)
        self.documents, self.lengths, self.texts = array("i"), array("i"), array("Q")
        self.digest = hashlib.sha256()
        self.num_documents = 0
        self.is_numbered = False  # the open document has a chunk, and with it a number
        self.has_boundary = False
        self.continues = False  # the first document began before the unit

    def add(self, ids: list[int]) -> None:
        if not ids:
            return
        tokens = np.asarray(ids, self.dtype)
        self.rest = np.concatenate([self.rest, tokens]) if len(self.rest) else tokens
        whole = len(self.rest) // self.body * self.body
        for start in range(0, whole, self.body):
            self._write(self.rest[start : start + self.body])
        self.rest = self.rest[whole:]

    def close_document(self) -> None:
        self.flush()
        self.has_boundary, self.is_numbered = True, False

    def flush(self) -> None:
        if len(self.rest):
            self._write(self.rest)
            self.rest = self.rest[:0]

    def _write(self, tokens: np.ndarray) -> None:
        if not self.is_numbered:
            self.continues |= not self.has_boundary
            self.num_documents += 1
            self.is_numbered = True
        record = self.prefix + tokens.tobytes() + self.suffix
        self.writer.write(record)
        self.documents.append(self.num_documents - 1)
        self.lengths.append(len(tokens) + NUM_SPECIAL)
        self.texts.append(int.from_bytes(hashlib.blake2b(record, digest_size=8).digest(), "little"))
        self.digest.update(len(record).to_bytes(4, "little") + record)
