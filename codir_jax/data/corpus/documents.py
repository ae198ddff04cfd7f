"""The text of a unit as a stream of pieces with document boundaries: memory does not grow with files or documents.

An event is `(is_new, text)`: with is_new, what was read before is a closed document; `text` (may be "") goes on with
the open one. White-space runs are one space. A piece is some ten thousand characters and ends at white space, so that
tokenising piece by piece gives what tokenising the whole would.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from codir_jax.data import compressed
from codir_jax.data.corpus.sources import Part, Unit, tfds_builder
from codir_jax.data.data_error import MAX_PROBLEMS_TOLD
from codir_jax.data.delimited import at, count_lines, nearest
from codir_jax.processes import json_text

Event = tuple[bool, str]

_BLOCK_BYTES = 1 << 16
_MAX_JSON_LINE = 256 << 20
_TFDS_READ = 64
_BOM = b"\xef\xbb\xbf"


def events(unit: Unit, boundary: str, text_field: str, problems: list[str]) -> Iterator[Event]:
    """Yields the events of a unit; what is wrong is appended to `problems`, and then the rest does not count.

    Args:
      unit: files, a byte range or TFDS examples.
      boundary: "file" or "blank_line", for .txt.
      text_field: of .jsonl.
      problems: "file:line: what is wrong", ten at most.
    """
    if unit.tfds is not None:
        yield from _tfds(unit, problems)
        return
    for part in unit.parts:
        is_json = compressed.kind_of(part.path) == ".jsonl"
        if is_json or part.start == 0:
            yield True, ""
        try:
            if is_json:
                yield from _json_lines(part, text_field, problems)
            else:
                yield from _plain_text(part, boundary, problems)
        except compressed.BROKEN as error:
            problems.append(at(part.path, None, compressed.what_is_wrong(part.path, error)))
        except OSError as error:
            problems.append(at(part.path, None, f"cannot be read: {error}"))
        if len(problems) >= MAX_PROBLEMS_TOLD:
            return
        if part.end is None:
            yield True, ""


def lines(unit: Unit, text_field: str, problems: list[str]) -> Iterator[str]:
    """Yields the lines of a unit in order, white-space runs as one space; an empty line is "".

    A .jsonl line, or a TFDS example, gives the lines of its text. Arguments as of `events`.
    """
    if unit.tfds is not None:
        yield from _lines_of(_tfds(unit, problems, keep_lines=True))
        return
    for part in unit.parts:
        is_json = part.path.lower().removesuffix(".gz").endswith(".jsonl")
        try:
            if is_json:
                yield from _lines_of(_json_lines(part, text_field, problems, keep_lines=True))
            else:
                rest = ""
                for text in _decoded(part, problems):
                    *whole, rest = f"{rest}{text}".split("\n")
                    yield from (" ".join(line.split()) for line in whole)
                if rest:  # a file need not end with a line end
                    yield " ".join(rest.split())
        except compressed.BROKEN as error:
            problems.append(at(part.path, None, compressed.what_is_wrong(part.path, error)))
        except OSError as error:
            problems.append(at(part.path, None, f"cannot be read: {error}"))
        if len(problems) >= MAX_PROBLEMS_TOLD:
            return


def _lines_of(documents: Iterator[Event]) -> Iterator[str]:
    for _, text in documents:
        yield from (" ".join(line.split()) for line in text.removesuffix("\n").split("\n"))


def _plain_text(part: Part, boundary: str, problems: list[str]) -> Iterator[Event]:
    is_line_start = True  # whether the block starts a line
    for text in _decoded(part, problems):
        if boundary == "file":
            yield False, " ".join(text.split())
        else:
            yield from _paragraphs(text, is_line_start)
        is_line_start = text.endswith("\n")


def _decoded(part: Part, problems: list[str]) -> Iterator[str]:
    """The text of a part in blocks, those that are no UTF-8 left out and told."""
    line = 0  # lines before the block
    for block in _blocks(part):
        if b"\0" in block:
            line += block[: block.index(b"\0")].count(b"\n")
            message = "a NUL byte: the file is binary, or UTF-16; save text as UTF-8"
            problems.append(_at_line(part, line, message))
            return
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError:
            _tell_broken_lines(part, line, block, problems)
            if len(problems) >= MAX_PROBLEMS_TOLD:
                return
        else:
            yield text
        line += block.count(b"\n")


def _paragraphs(text: str, is_line_start: bool) -> Iterator[Event]:
    lines = text.split("\n")
    if text.endswith("\n"):
        lines.pop()
    start = 0
    for i, line in enumerate(lines):
        if not line.strip() and (i > 0 or is_line_start):
            yield False, " ".join(" ".join(lines[start:i]).split())
            yield True, ""
            start = i
    yield False, " ".join(" ".join(lines[start:]).split())


def _json_lines(part: Part, field: str, problems: list[str], *, keep_lines: bool = False) -> Iterator[Event]:
    line = -1
    with _open(part) as stream:
        position = part.start
        while part.end is None or position < part.end:
            raw = stream.readline(_MAX_JSON_LINE)
            if not raw:
                return
            position += len(raw)
            line += 1
            if line == 0 and part.start == 0:
                raw = raw.removeprefix(_BOM)
            if not raw.strip():
                continue
            text, problem = _json_text(raw, field)
            if problem:
                problems.append(_at_line(part, line, problem))
                if len(problems) >= MAX_PROBLEMS_TOLD:
                    return
                continue
            yield from _document(text, keep_lines)


def _json_text(raw: bytes, field: str) -> tuple[str, str]:
    """Returns (text, "") or ("", what is wrong)."""
    if len(raw) == _MAX_JSON_LINE:
        return "", f"the line is longer than {_MAX_JSON_LINE >> 20} MiB; expected one document a line"
    if b"\0" in raw:
        return "", "a NUL byte: the file is binary, or UTF-16; save text as UTF-8"
    try:
        record = json_text.parse(raw.decode("utf-8"), allow_nan=True)  # of fields that nobody reads
    except UnicodeDecodeError as error:
        return "", _broken_utf8(raw, error)
    except json_text.JsonError as error:
        return "", f"no JSON: {error}"
    if not isinstance(record, dict):
        return "", f"expected a JSON object with {field!r}, got {type(record).__name__}"
    if field not in record:
        known = ", ".join(map(str, list(record)[:20])) or "none"
        return "", f"no field {field!r} (data.text_field); fields are {known}{nearest(field, list(record))}"
    return _checked_text(record[field], field)


def _tfds(unit: Unit, problems: list[str], *, keep_lines: bool = False) -> Iterator[Event]:
    text = unit.tfds
    source = tfds_builder(text.name, text.data_dir).as_data_source(text.split)
    for start in range(unit.start, unit.end, _TFDS_READ):
        rows = range(start, min(start + _TFDS_READ, unit.end))
        for row, example in zip(rows, source.__getitems__(rows), strict=True):
            value, problem = example[text.field], ""
            if isinstance(value, bytes):
                try:
                    value = value.decode("utf-8")
                except UnicodeDecodeError as error:
                    problem = _broken_utf8(value, error)
            if not problem and isinstance(value, str) and not value.strip():
                continue  # an empty article is none, and nobody can correct it here
            if not problem:
                value, problem = _checked_text(value, text.field)
            if problem:
                problems.append(f"tfds:{text.name} {text.split}[{row}]: {problem}")
                if len(problems) >= MAX_PROBLEMS_TOLD:
                    return
                continue
            yield from _document(value, keep_lines)


def _checked_text(value, field: str) -> tuple[str, str]:
    if not isinstance(value, str):
        return "", f"expected a text in {field!r}, got {type(value).__name__}"
    if not value.strip():
        return "", f"empty text in {field!r}"
    if not json_text.is_unicode(value):
        return "", f"broken encoding in {field!r}: half a surrogate pair"
    return value, ""


def _document(text: str, keep_lines: bool) -> Iterator[Event]:
    """Yields one whole document, cut at spaces; with `keep_lines` as it is, in one piece."""
    if keep_lines:
        yield False, text
        return
    text = " ".join(text.split())
    yield True, ""
    start = 0
    while start < len(text):
        end = len(text)
        if end - start > _BLOCK_BYTES:
            space = text.rfind(" ", start, start + _BLOCK_BYTES)
            end = space if space > start else start + _BLOCK_BYTES
        yield False, text[start:end].strip()
        start = end
    yield True, ""


def _open(part: Part):
    stream = compressed.open_bytes(part.path)
    if part.start:  # of no .gz
        stream.seek(part.start)
    return stream


def _blocks(part: Part) -> Iterator[bytes]:
    """Yields the bytes of a part in blocks that end at a line end; in a longer line at a space, else at a character."""
    with _open(part) as stream:
        left = None if part.end is None else part.end - part.start
        rest = stream.read(3) if part.start == 0 else b""
        if part.start == 0:
            left = left if left is None else left - len(rest)
            rest = rest.removeprefix(_BOM)
        while True:
            block = stream.read(_BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left))
            if left is not None:
                left -= len(block)
            if not block:
                break
            rest += block
            cut = rest.rfind(b"\n") + 1 or (len(rest) >= _BLOCK_BYTES and rest.rfind(b" ") + 1)
            if not cut and len(rest) >= _BLOCK_BYTES:
                cut = len(rest)
                # 0b10xxxxxx goes on with a character: cut before its first byte.
                while cut > len(rest) - 4 and rest[cut - 1] & 0xC0 == 0x80:
                    cut -= 1
                cut -= 1
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest


def _tell_broken_lines(part: Part, line: int, block: bytes, problems: list[str]) -> None:
    for i, raw in enumerate(block.split(b"\n")):
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            problems.append(_at_line(part, line + i, _broken_utf8(raw, error)))
            if len(problems) >= MAX_PROBLEMS_TOLD:
                return


def _broken_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return f"broken UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}; save it as UTF-8"


def _at_line(part: Part, line: int, message: str) -> str:
    """The problem at `line` (from 0) of the part, told with its line in the file."""
    line += count_lines(Path(part.path), part.start)
    return at(part.path, line + 1, message)
