"""What `data.sources` names: files and TFDS data sets with weights, cut into units of work of some megabytes."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import importlib
import itertools
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from codir_jax.data.corpus import demo_text
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import at
from codir_jax.data.shards import files
from codir_jax.data.shards.files import Part, TextFile

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
TFDS_PREFIX = "tfds:"

_MAX_UNIT_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class TfdsText:
    """A text feature of one split of a prepared TFDS data set.

    Attributes:
      name: with config and version, as "wikipedia/20230601.en:1.0.0".
      field: feature that holds the text.
      split: TFDS split, slices included.
      data_dir: folder of TFDS, "" for its default.
      num_examples: of the split.
      num_bytes: of the split, as TFDS tells it.
    """

    name: str
    field: str
    split: str
    data_dir: str
    num_examples: int
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class Source:
    """One entry of `data.sources`: `weight` times its chunks are drawn in an epoch."""

    entry: str
    weight: float
    files: tuple[TextFile, ...] = ()
    tfds: TfdsText | None = None


@dataclasses.dataclass(frozen=True)
class Unit:
    """Work of one process at a time: files, or one byte range of a large file, or examples start .. end of TFDS.

    Attributes:
      index: place in the corpus.
      source: index of its source.
      num_bytes: of text to read, for the progress bar.
      parts: of files.
      tfds: data set that `start` and `end` count in.
    """

    index: int
    source: int
    num_bytes: int
    parts: tuple[Part, ...] = ()
    tfds: TfdsText | None = None
    start: int = 0
    end: int = 0

    @property
    def name(self) -> str:
        return f"unit-{self.index:05d}"


def find(entries: str, tfds_data_dir: str = "", *, named_by: str = "") -> tuple[Source, ...]:
    """Returns the sources of a comma-separated list, files in sorted order.

    Args:
      named_by: field that holds the list, told with its problems.

    Raises:
      DataError: an entry finds nothing, a file has an unknown format or is named twice, a weight is no number.
    """
    problems: list[str] = []
    sources = []
    seen: dict[str, str] = {}
    for entry in filter(None, (entry.strip() for entry in entries.split(","))):
        place, weight = _weight(entry, problems)
        if place.startswith(TFDS_PREFIX):
            sources.append(Source(entry, weight, tfds=_tfds_text(place, tfds_data_dir, problems)))
            continue
        found = _files(place, problems)
        for file in found:
            if file.path in seen:
                problems.append(at(file.path, None, f"is in both {seen[file.path]!r} and {entry!r}; use a weight"))
            seen[file.path] = entry
        sources.append(Source(entry, weight, found))
    if problems:
        raise DataError([f"{named_by}: {problem}" if named_by else problem for problem in problems])
    return tuple(sources)


def units(sources: Sequence[Source]) -> tuple[Unit, ...]:
    """Returns the work, which follows from the files alone: the same for any number of processes and workers."""
    total = sum(_num_bytes(source) for source in sources)
    unit_bytes = files.unit_bytes(total, _MAX_UNIT_BYTES)
    found: list[Unit] = []
    for number, source in enumerate(sources):
        if source.tfds is not None:
            text = source.tfds
            share = max(1, math.ceil(text.num_bytes / unit_bytes))
            bounds = [text.num_examples * i // share for i in range(share + 1)]
            for start, end in itertools.pairwise(bounds):
                if end > start:
                    size = text.num_bytes * (end - start) // text.num_examples
                    found.append(Unit(len(found), number, size, tfds=text, start=start, end=end))
            continue
        group: list[Part] = []
        size = 0
        for file in source.files:
            cuts = files.cuts(file, unit_bytes)
            if group and (cuts or size + file.size > unit_bytes):
                found.append(Unit(len(found), number, size, tuple(group)))
                group, size = [], 0
            if not cuts:
                group.append(Part(file.path))
                size += file.size
                continue
            for start, end in zip([0, *cuts], [*cuts, None], strict=True):
                length = (file.size if end is None else end) - start
                found.append(Unit(len(found), number, length, (Part(file.path, start, end),)))
        if group:
            found.append(Unit(len(found), number, size, tuple(group)))
    return tuple(found)


def _num_bytes(source: Source) -> int:
    return source.tfds.num_bytes if source.tfds is not None else sum(file.size for file in source.files)


def _weight(entry: str, problems: list[str]) -> tuple[str, float]:
    place, separator, text = entry.rpartition("@")
    if not separator or Path(entry).expanduser().exists():
        return entry, 1.0
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (weight > 0 and math.isfinite(weight)):
        problems.append(f"{entry}: expected a weight above 0 behind @, got {text!r}")
        return place, 1.0
    return place, weight


def _files(place: str, problems: list[str]) -> tuple[TextFile, ...]:
    path = demo_text.file(place) if place.startswith(demo_text.PREFIX) else Path(place).expanduser()
    if path.is_dir():
        paths = [file for file in path.rglob("*") if file.name.lower().endswith(SUFFIXES) and file.is_file()]
        if not paths:
            problems.append(at(path, None, f"the folder holds no {', '.join(SUFFIXES)}"))
    elif path.is_file():
        paths = [path]
    elif path.exists():  # a pipe would be waited for, a device has no end
        problems.append(at(place, None, "no regular file; expected text on disk"))
        paths = []
    else:
        is_pattern = glob.has_magic(place)
        paths = [file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file()]
        if not paths:
            problems.append(at(place, None, "no file matches" if is_pattern else "no such file or folder"))
    for file in paths:
        if not file.name.lower().endswith(SUFFIXES):
            problems.append(at(file, None, f"unknown format {file.suffix!r}; expected {', '.join(SUFFIXES)}"))
    return tuple(map(files.text_file, sorted(paths)))


def _tfds_text(place: str, data_dir: str, problems: list[str]) -> TfdsText | None:
    name, _, rest = place.removeprefix(TFDS_PREFIX).partition(":")
    # A version has colons of its own (wikipedia/20230601.en:1.0.0).
    if rest[:1].isdigit():
        version, _, rest = rest.partition(":")
        name = f"{name}:{version}"
    field, _, split = rest.partition(":")
    field, split = field or "text", split or "train"
    try:
        builder = tfds_builder(name, data_dir)
        known = list(builder.info.features or {})
        if field not in known:
            problems.append(f"{place}: no feature {field!r}; features are {', '.join(known)}")
            return None
        facts = builder.info.splits[split]
        # A slice has no bytes of its own; the data set's share is near enough for a progress bar.
        whole = builder.info.splits[split.partition("[")[0]] if "[" in split else facts
        num_bytes = whole.num_bytes * facts.num_examples // max(1, whole.num_examples)
        return TfdsText(_pinned_name(builder), field, split, data_dir, facts.num_examples, max(1, num_bytes))
    except Exception as error:  # TFDS, requests, OS and import errors have no common base
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
        problems.append(
            f"{place}: TFDS has no such data set ready ({reason}); prepare it once where TensorFlow is installed "
            f"(wikipedia and c4 also want apache-beam): tfds build {name} --file_format=array_record --data_dir=DIR, "
            "and set data.tfds_data_dir=DIR"
        )
        return None


def may_overlap(one: TfdsText, other: TfdsText) -> bool:
    """Whether two texts of TFDS share examples of a split."""
    if (one.name, one.data_dir) != (other.name, other.data_dir):
        return False
    splits = tfds_builder(one.name, one.data_dir).info.splits
    parts = [
        [(part.filename, part.skip, part.skip + part.take) for part in splits[text.split].file_instructions]
        for text in (one, other)
    ]
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in parts[0] for b in parts[1])


def _pinned_name(builder) -> str:
    """The name that tfds.builder gives this version for; info.full_name is none."""
    config = f"/{builder.builder_config.name}" if builder.builder_config else ""
    return f"{builder.name}{config}:{builder.version}"


def tfds_builder(name: str, data_dir: str):
    """Returns the builder of a prepared data set in array_record, prepared now where it can be downloaded."""
    import tensorflow_datasets as tfds

    tfds.display_progress_bar(False)
    # Without TensorFlow TFDS does not register what lies in this package (wikipedia, c4).
    with contextlib.suppress(ImportError):
        importlib.import_module(f"tensorflow_datasets.text.{name.partition('/')[0].partition(':')[0]}")
    builder = tfds.builder(name, data_dir=os.path.expanduser(data_dir) or None, file_format="array_record")
    if not builder.info.splits:
        # TFDS prints to standard output, where something else may be going.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
    return builder
