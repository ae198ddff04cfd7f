"""Text as one stream of tokens for each split, tokenised once, read from disk through a memory map."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.corpus import sources
from codir_jax.data.data_error import DataError
from codir_jax.data.shards import files, preparation
from codir_jax.data.shards import folder as shard_folder
from codir_jax.data.shards.preparation import Together
from codir_jax.data.stream import settings, shards
from codir_jax.data.stream.shards import COUNTS, LINES_FILE, TOKENS_FILE, Reading
from codir_jax.processes import whole
from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.user_error import UserError

# Part of the cache key: count up when the reading or layout of text changes.
_VERSION = 1


class TokenFiles:
    """Tokens that lie one file after the other, as one array on disk.

    Args:
      paths: files of tokens, none of them empty. lengths: tokens of each. dtype: of a token.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int], dtype: str):
        self._paths = tuple(paths)
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._open = files.OpenFiles(functools.partial(np.memmap, dtype=dtype, mode="r"))

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Returns tokens start .. stop - 1, int32."""
        parts = [np.zeros(0, np.int32)]
        index = int(np.searchsorted(self._offsets, start, side="right")) - 1
        while start < stop:
            first, last = self._offsets[index], min(self._offsets[index + 1], stop)
            parts.append(self._open.open(self._paths[index])[start - first : last - first].astype(np.int32))
            start, index = int(last), index + 1
        return np.concatenate(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """The tokens of a split, in order.

    Attributes:
      files: where they lie. start, stop: which of them are the split's.
      eos_token_id: closes every line, and stands before the first one.
      counts: "lines", and those of `shards.COUNTS` summed over them.
    """

    files: TokenFiles
    start: int
    stop: int
    eos_token_id: int
    counts: dict[str, int]

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, start: int, stop: int) -> np.ndarray:
        """Returns tokens start .. stop - 1 of the split, int32; token -1 is the end of a line."""
        before = np.full(max(-start, 0), self.eos_token_id, np.int32)
        return np.concatenate([before, self.files.read(self.start + max(start, 0), self.start + stop)])


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
    """The splits of a text.

    Attributes:
      splits: "train", "dev" and, where there is one, "test" -> Stream.
      vocab_size: ids that the tokenizer knows. unk_token: what stands for words that it has not; "" where there are
        none.
      fingerprint: sha256 hex of tokens, splits and tokenizer.
    """

    splits: dict[str, Stream]
    vocab_size: int
    unk_token: str
    fingerprint: str


def load(config, tokenizer, together: Together = preparation.ALONE) -> Streams:
    """Returns the streams of `data.sources`, tokenised now or taken from `data.cache_dir`.

    Every process calls it with the same config; each tokenises its share into the folder that they all see.

    Args:
      config: the data section of a config (data/stream/settings.py).
      tokenizer: fast transformers tokenizer with an eos or a sep token.
      together: the processes.

    Raises:
      UserError: the config contradicts itself, the tokenizer closes no line, or a split is too small.
      DataError: with file and line of up to ten problems of the text.
    """
    root = cache_folder("stream", config.cache_dir)
    together.require_shared(root)
    settings.check(config)
    reading = shards.reading_of(tokenizer, tokenizer_lib.state(tokenizer), config)
    names = {"train": "sources", "dev": "dev_sources", "test": "test_sources"}
    if together.index != 0:  # one process first: a TFDS data set that is not there yet is fetched once
        together.barrier("stream sources")
    try:
        found = {
            split: sources.find(config[name], config.tfds_data_dir, named_by=f"data.{name}")
            for split, name in names.items()
            if config[name].strip()
        }
    finally:
        if together.index == 0:
            together.barrier("stream sources")
    _check_apart(found)
    _check_weights(found)
    read = {split: _prepared(entries, reading, root, config.num_workers, together) for split, entries in found.items()}
    digest = hashlib.sha256(tokenizer_lib.state(tokenizer).encode())
    shares = {split: config[f"{split}_percent"] for split in ("dev", "test") if split not in found}
    bounds = _bounds(len(read["train"][1]), shares)
    splits = {}
    for split in ("train", "dev", "test"):
        tokens, lines, text_digest = read.get(split, read["train"])
        first, last = bounds.get(split, (0, len(lines)))
        if split not in found and first == last:
            continue
        splits[split] = _stream(tokens, lines, first, last, reading.eos_token_id)
        digest.update(f"{split} {text_digest} {first} {last}".encode())
    unk_token = tokenizer.unk_token if reading.unk_token_id >= 0 else ""
    streams = Streams(splits, max(tokenizer.get_vocab().values()) + 1, unk_token, digest.hexdigest())
    _check_splits(streams, config)
    return streams


def _check_weights(found) -> None:
    """A stream is read from its beginning to its end: no source of it may come more often than another."""
    for entry in (entry for entries in found.values() for entry in entries):
        if entry.weight != 1:
            raise UserError(
                f"{entry.entry}: text is read once an epoch here, without weights; leave @{entry.weight:g} out"
            )


def _prepared(entries, reading: Reading, root: Path, num_workers: int, together: Together):
    """Returns (TokenFiles, lines uint32 [lines, 4] mapped from disk, digest), with every shard in place."""
    units = sources.units(entries)
    identity = [_VERSION, dataclasses.astuple(reading), [dataclasses.asdict(unit) for unit in units]]
    identity.append([dataclasses.asdict(file) for entry in entries for file in entry.files])
    folder = root / f"stream-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"
    is_ready = (folder / LINES_FILE).is_file() and shard_folder.are_whole(folder, (unit.name for unit in units))
    write = functools.partial(shards.write, reading=reading)
    problems = preparation.shared(units, write, folder, together, num_workers=num_workers, is_ready=is_ready)
    if problems:
        raise DataError(problems)
    facts = [shard_folder.read_facts(folder, unit.name) for unit in units]
    if together.index == 0 and not is_ready:
        tables = [np.load(folder / unit.name / LINES_FILE) for unit in units]
        with whole.file(folder / LINES_FILE, binary=True) as file:
            np.save(file, np.concatenate([np.zeros((0, len(COUNTS)), np.uint32), *tables]))
        shard_folder.clean(folder)
    together.barrier(f"{folder.name} joined")
    if not sum(fact["num_tokens"] for fact in facts):
        raise DataError([f"{', '.join(entry.entry for entry in entries)}: no text at all"])
    digest = hashlib.sha256(" ".join(fact["digest"] for fact in facts).encode()).hexdigest()
    full = [(str(folder / u.name / TOKENS_FILE), f["num_tokens"]) for u, f in zip(units, facts, strict=True)]
    paths, lengths = zip(*(one for one in full if one[1]), strict=True)
    return TokenFiles(paths, lengths, reading.dtype), np.load(folder / LINES_FILE, mmap_mode="r"), digest


def _bounds(num_lines: int, shares: dict[str, float]) -> dict[str, tuple[int, int]]:
    """Split -> (first line, line after the last): train from the beginning, then dev, then test."""
    bounds, end = {}, num_lines
    for split in ("test", "dev"):
        if shares.get(split, 0) > 0:
            num = max(round(num_lines * shares[split] / 100), 1)
            bounds[split] = (max(end - num, 0), end)
            end = bounds[split][0]
        elif split in shares:
            bounds[split] = (end, end)
    return {**bounds, "train": (0, end)}


def _stream(tokens: TokenFiles, lines: np.ndarray, first: int, last: int, eos_token_id: int) -> Stream:
    start = int(lines[:first, 0].sum(dtype=np.int64))
    sums = lines[first:last].sum(axis=0, dtype=np.int64)
    counts = {"lines": last - first, **dict(zip(COUNTS, map(int, sums), strict=True))}
    return Stream(tokens, start, start + counts["tokens"], eos_token_id, counts)


def _check_apart(found) -> None:
    seen: dict[str, str] = {}
    both = []
    for split, entries in found.items():
        for file in (file for entry in entries for file in entry.files):
            if seen.setdefault(file.path, split) != split:
                both.append(f"{file.path}: is both {seen[file.path]} and {split} text")
    if both:
        raise DataError(both)


def _check_splits(streams: Streams, config) -> None:
    """Refuses splits that are too small, and text of which the vocabulary has no word."""
    train = streams.splits["train"]
    least = 2 * config.batch_size
    if len(train) < least:
        raise UserError(
            f"the train text has {train.counts['lines']:,} lines, {len(train):,} tokens, too few for "
            f"{config.batch_size} rows of at least two; lower data.batch_size, give more text, or files of its own as "
            "data.dev_sources"
        )
    for split, stream in streams.splits.items():
        words = stream.counts["tokens"] - stream.counts["lines"]
        if words and stream.counts["unknown"] == words:
            raise UserError(
                f"every word of the {split} text is unknown to the tokenizer ({words:,} of {words:,} tokens are "
                f"{streams.unk_token}); is the vocabulary of another language, or the text not cased as it is?"
            )
