r"""N-best lists from files: JSON lines, or Kaldi text.

.jsonl   {"id": "a-1", "candidates": ["...", "..."], "scores": [-3.1, -4.0], "reference": "..."}
         "scores" (acoustic, more is better) and "reference" may be left out, or the latter be null; "gold": 3 is a
         reference by its place
other    KEY-N ACOUSTIC_SCORE WORDS ...     one candidate a line, as ESPnet and Kaldi write lists; those of a key,
         the part before the last "-", stand together
references of either are a Kaldi text: KEY WORDS ...
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

from codir_jax.data import compressed
from codir_jax.data.data_error import DataError
from codir_jax.processes import json_text
from codir_jax.processes.user_error import MissingFileError

_MAX_TOLD = 10


class Candidates(NamedTuple):
    """key: of the list. candidates: texts. scores: acoustic, one each. reference: None where it is not known."""

    key: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]
    reference: str | None


def read(path: str, reference_path: str = "") -> list[Candidates]:
    """Returns the lists of a file, in its order.

    Raises:
      DataError: with the lines of up to ten problems.
      MissingFileError: there is no such file.
    """
    problems: list[str] = []
    lines = _lines(path, problems)
    found = (_of_json if compressed.kind_of(path) in (".jsonl", ".json") else _of_kaldi)(path, lines, problems)
    if reference_path:
        references = {}
        for number, line in _lines(reference_path, problems):
            key, text = (*line.split(None, 1), "")[:2]
            if key in references:
                problems.append(f"{reference_path}:{number}: {key!r} is there twice")
            references[key] = text.strip()
        for one in found:
            if one.key not in references:
                problems.append(f"{reference_path}: no reference of {one.key!r}")
        found = [one._replace(reference=references.get(one.key)) for one in found]
    if not found and not problems:
        problems.append(f"{path}: no list at all")
    if problems:
        raise DataError(problems[:_MAX_TOLD])
    return found


def _lines(path: str, problems: list[str]):
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist")
    found = []
    try:
        with compressed.open_bytes(path) as file:
            content = file.read()
    except compressed.BROKEN as error:
        problems.append(f"{path}: {compressed.what_is_wrong(path, error)}")
        return found
    for number, raw in enumerate(content.split(b"\n"), 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            hint = compressed.hint(path, raw) if number == 1 else ""
            problems.append(f"{path}:{number}: broken UTF-8 (byte {error.start}); save it as UTF-8{hint}")
            continue
        if "\0" in line:
            problems.append(f"{path}:{number}: a NUL character; it is no text")
        elif line.strip():
            found.append((number, line))
    return found


def _of_json(path, lines, problems):
    found, known = [], set()
    for number, line in lines:
        try:
            row = json_text.parse(line, allow_nan=True)  # a score that is NaN is told as one
        except json_text.JsonError as error:
            problems.append(f"{path}:{number}: {error}; expected one object a line")
            continue
        if fault := _fault(row):
            problems.append(f"{path}:{number}: {fault}")
            continue
        key = str(row.get("id", number))
        if key in known:
            problems.append(f"{path}:{number}: id {key!r} is there twice")
        known.add(key)
        candidates, reference = tuple(row["candidates"]), row.get("reference")
        if reference is None and row.get("gold") is not None:
            reference = candidates[row["gold"]]
        scores = tuple(map(float, row.get("scores", [0.0] * len(candidates))))
        found.append(Candidates(key, candidates, scores, reference))
    return found


def _fault(row) -> str:
    if not isinstance(row, dict) or not isinstance(row.get("candidates"), list) or not row["candidates"]:
        return 'expected an object with "candidates", a list of at least one text'
    if not all(isinstance(one, str) and one.strip() for one in row["candidates"]):
        return "a candidate is empty or no text"
    if not all(map(json_text.is_unicode, row["candidates"])):
        return "broken encoding in a candidate: half a surrogate pair"
    scores = row.get("scores", [0.0] * len(row["candidates"]))
    if not isinstance(scores, list) or len(scores) != len(row["candidates"]):
        return f'"scores" is not a list of {len(row["candidates"])} numbers, one a candidate'
    if not all(isinstance(one, int | float) and abs(one) <= sys.float_info.max for one in scores):
        return '"scores" holds something that is no finite number'
    gold, reference = row.get("gold"), row.get("reference")
    if gold is not None and not (isinstance(gold, int) and 0 <= gold < len(row["candidates"])):
        return f'"gold" is no place among the {len(row["candidates"])} candidates'
    if reference is not None and not (isinstance(reference, str) and json_text.is_unicode(reference)):
        return '"reference" is no text'
    return ""


def _of_kaldi(path, lines, problems):
    lists: dict[str, list] = {}
    known = set()
    for number, line in lines:
        parts = line.split(None, 2)
        key, _, number_in_list = parts[0].rpartition("-")
        try:
            score = float(parts[1])
        except (IndexError, ValueError):
            score = math.nan
        if not key or not number_in_list.isdecimal() or not math.isfinite(score) or len(parts) < 3:
            problems.append(
                f"{path}:{number}: expected KEY-N ACOUSTIC_SCORE WORDS, N a number, got {line.strip()[:60]!r}"
            )
            continue
        if parts[0] in known:
            problems.append(f"{path}:{number}: {parts[0]!r} is there twice")
        known.add(parts[0])
        lists.setdefault(key, []).append((parts[2].strip(), score))
    return [Candidates(key, *zip(*rows, strict=True), None) for key, rows in lists.items()]
