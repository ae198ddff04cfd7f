"""A corpus for masked language modelling: text of any size, tokenised once into shards, read at random afterwards."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import numpy as np

from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.corpus import settings, shards, sources, splits
from codir_jax.data.corpus.chunks import Chunks
from codir_jax.data.corpus.masking import Masking, masked_slots, masking_of
from codir_jax.data.corpus.shards import TOKENS_FILE
from codir_jax.data.data_error import DataError
from codir_jax.data.shards import folder as shard_folder
from codir_jax.data.shards import preparation
from codir_jax.data.shards.preparation import Together
from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.user_error import UserError

# Part of the cache key: count up when the reading, packing or layout of text changes.
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class CorpusInfo:
    """Facts of a corpus that models and reports are built from.

    Attributes:
      name: "corpus".
      num_train: chunks of the train split.
      vocab_size: ids that the tokenizer knows.
      num_documents: split -> documents.
      num_tokens: split -> tokens, specials aside.
      num_chunks: split -> chunks.
      splits: "train" and "dev".
      sources: entry of `data.sources` -> chunks of the train split.
    """

    name: str
    num_train: int
    vocab_size: int
    num_documents: dict[str, int]
    num_tokens: dict[str, int]
    num_chunks: dict[str, int]
    splits: tuple[str, ...]
    sources: dict[str, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Tokenised splits with their facts.

    Attributes:
      info: CorpusInfo.
      splits: "train" and "dev" -> Chunks.
      fingerprint: sha256 hex of tokens, splits and tokenizer: same fingerprint, same rows. Not of paths or dates.
      pad_token_id: fills padding.
      max_length: tokens of a chunk at most, specials included, and the padded length of every batch.
      masking: what of the vocabulary may be masked, and by what.
    """

    info: CorpusInfo
    splits: dict[str, Chunks]
    fingerprint: str
    pad_token_id: int
    max_length: int
    masking: Masking


def load(config, tokenizer, together: Together = preparation.ALONE) -> Corpus:
    """Returns the corpus of `data.sources`, tokenised now or taken from `data.cache_dir`.

    Every process calls it with the same config; each tokenises its share into the folder that they all see.

    Args:
      config: the data section of a config (data/corpus/settings.py).
      tokenizer: fast transformers tokenizer with mask, cls, sep and pad tokens.
      together: the processes.

    Raises:
      UserError: the config contradicts itself, the tokenizer lacks a special token, the processes share no folder.
      DataError: with file and line of up to ten problems of the text.
    """
    root = cache_folder("corpus", config.cache_dir)
    together.require_shared(root)
    settings.check(config)
    packing = shards.packing_of(
        tokenizer,
        tokenizer_lib.state(tokenizer),
        max_length=config.max_length,
        boundary=config.document_boundary,
        text_field=config.text_field,
    )
    # One process first: a TFDS data set that is not there yet is fetched once.
    if together.index != 0:
        together.barrier("corpus sources")
    try:
        found = _find(config)
    finally:
        if together.index == 0:
            together.barrier("corpus sources")
    prepare = functools.partial(
        _prepare,
        packing=packing,
        root=root,
        num_workers=config.num_workers,
        together=together,
    )

    parts = {}
    num_masked_max = masked_slots(config)
    digest = hashlib.sha256(f"{tokenizer_lib.state(tokenizer)} {config.max_length}".encode())
    if "dev" in found:
        for split, entries in found.items():
            place, joined, units = prepare(entries, dev_percent=None)
            parts[split] = place, "all", joined, units
            digest.update(f"{split} {joined.digest}".encode())
    else:
        place, joined, units = prepare(found["train"], dev_percent=config.dev_percent)
        parts = {split: (place, split, joined, units) for split in ("train", "dev")}
        digest.update(f"{joined.digest} ".encode())
        # The bytes: an array of more than 1,000 numbers is written with dots for all but the outer ones.
        digest.update(splits.held_out(joined.num_documents, config.dev_percent).tobytes())

    chunks, facts = {}, {}
    for split, (place, name, joined, units) in parts.items():
        facts[split] = json.loads((place / splits.FACTS_FILE).read_text(encoding="utf-8"))[name]
        entries = found.get(split, found["train"])
        columns = {column: np.load(place / name / f"{column}.npy", mmap_mode="r") for column in splits.COLUMNS}
        chunks[split] = Chunks(
            **columns,
            shard_paths=tuple(str(place.parent / unit.name / TOKENS_FILE) for unit in units),
            shard_offsets=joined.chunk_offsets,
            dtype=packing.dtype,
            num_masked_max=num_masked_max,
            source_offsets=np.cumsum([0, *facts[split]["source_rows"]]),
            source_weights=tuple(source.weight for source in entries),
        )
    masking = masking_of(tokenizer, rate=config.mask_rate, whole_word=config.whole_word_masking)
    info = CorpusInfo(
        name="corpus",
        num_train=len(chunks["train"]),
        vocab_size=len(masking.is_special),
        num_documents={split: fact["num_documents"] for split, fact in facts.items()},
        num_tokens={split: fact["num_tokens"] for split, fact in facts.items()},
        num_chunks={split: len(rows) for split, rows in chunks.items()},
        splits=tuple(chunks),
        sources=dict(zip([s.entry for s in found["train"]], facts["train"]["source_rows"], strict=True)),
    )
    return Corpus(info, chunks, digest.hexdigest(), int(tokenizer.pad_token_id), config.max_length, masking)


def _find(config) -> dict[str, tuple[sources.Source, ...]]:
    found = {"train": sources.find(config.sources, config.tfds_data_dir)}
    if config.dev_sources.strip():
        found["dev"] = sources.find(config.dev_sources, config.tfds_data_dir, named_by="data.dev_sources")
        _check_apart(found["train"], found["dev"])
    return found


def _prepare(entries, *, dev_percent, packing, root, num_workers, together):
    """Returns (folder of the splits, splits.Layout, units), with every shard and split in place."""
    units = sources.units(entries)
    key = hashlib.sha256(json.dumps([_VERSION, _identity(entries), dataclasses.astuple(packing)]).encode())
    folder = root / f"tokens-{key.hexdigest()[:16]}"
    place = folder / ("all" if dev_percent is None else f"dev-{dev_percent:g}")
    is_ready = (place / splits.FACTS_FILE).is_file() and shard_folder.are_whole(folder, (unit.name for unit in units))
    write = functools.partial(_write, packing=packing)
    problems = preparation.shared(units, write, folder, together, num_workers=num_workers, is_ready=is_ready)
    if problems:
        raise DataError(problems)
    joined = splits.layout(units, folder)
    if joined.num_documents == 0:
        raise DataError([f"{', '.join(entry.entry for entry in entries)}: no text at all"])
    if dev_percent is not None and joined.num_documents == 1:
        raise UserError(
            "the corpus is one document, so none can be held out; set data.dev_sources to text of its own, or "
            "data.document_boundary to blank_line"
        )
    if not is_ready and together.index == 0:
        dev = None if dev_percent is None else splits.held_out(joined.num_documents, dev_percent)
        splits.write(place, units, folder, joined, dev)
        shard_folder.clean(folder)
        together.tell(
            f"corpus: {joined.num_documents:,} documents, {joined.num_tokens:,} tokens, "
            f"{int(joined.chunk_offsets[-1]):,} chunks in {folder}"
        )
    together.barrier(f"{folder.name} joined")
    return place, joined, units


def _write(unit: sources.Unit, folder: Path, packing: shards.Packing) -> list[str]:
    return shards.write(unit, packing, folder)


def _identity(entries) -> list:
    """What tells one corpus from another: paths, sizes and dates, not weights."""
    return [[dataclasses.astuple(source.tfds) if source.tfds else [dataclasses.astuple(f) for f in source.files]]
            for source in entries]  # fmt: skip


def _check_apart(train, dev) -> None:
    paths = {file.path for source in train for file in source.files}
    both = [file.path for source in dev for file in source.files if file.path in paths]
    both += [s.entry for s in dev if s.tfds and any(sources.may_overlap(s.tfds, t.tfds) for t in train if t.tfds)]
    if both:
        raise DataError([f"{name}: in data.sources and in data.dev_sources" for name in both])
