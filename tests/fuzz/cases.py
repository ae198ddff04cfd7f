"""Cases as data: every `cases/GROUP.jsonl` holds one JSON object a line, which may stand for many cases.

    case        name
    command     arguments of `codir`; {work} is the case's folder, {fixtures} the shared ones, read-only
    expect      "ok", "refuse" (status 2 or 4 and one sentence) or "either" (both are right)
    says        pattern that the sentence, or of an accepted case the output, must hold
    never       pattern that the output of what is accepted must not hold
    more        arguments behind those of the command
    overrides   of a config, ["KEY=VALUE", ...]: a case each; `says` is the key's last part, without unit, if not given
    is_quick    whether the fast tests try it
    seconds     that it may take; more is a hang
    stdin       what it reads
    until       "start" (default): a training counts as accepted when it would begin; "end": it really runs
    may_change  files of the case's folder that the command may replace, as patterns
    env         variables
    each        {"NAME": [values]}: once for each value (several names: in step), put in the place of <NAME>; they stand
                in the case's name, but for W
    files       what lies in {work} before, {path: text or operation}; see `prepare`. A text may hold \\udcXX for the
                byte XX.

A first line {"defaults": {...}} holds for all lines of its file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent / "cases"


class Case(NamedTuple):
    """One command line with what is expected of it."""

    group: str
    name: str
    command: list[str]
    expect: str
    says: str = ""
    never: str = ""
    files: dict[str, Any] = {}  # noqa: RUF012 - never changed
    stdin: str = ""
    until: str = "start"
    seconds: float = 60
    is_quick: bool = False
    may_change: tuple[str, ...] = ()
    env: dict[str, str] = {}  # noqa: RUF012


def read(folder: Path = FOLDER) -> list[Case]:
    """Every case of every group, in the order of the files."""
    return [case for path in sorted(folder.glob("*.jsonl")) for case in _of_file(path)]


def _of_file(path: Path) -> Iterator[Case]:
    defaults: dict[str, Any] = {}
    for line in filter(str.strip, path.read_text(encoding="utf-8").splitlines()):
        entry = json.loads(line)
        if "defaults" in entry:
            defaults = entry["defaults"]
            continue
        each = entry.pop("each", {"": [""]})
        if overrides := entry.pop("overrides", None):
            entry.setdefault("says", "<WORD>")
            entry["more"] = [*entry.get("more", []), "--config.<KEY>"]
            each = {"KEY": overrides, "WORD": [_word(one) for one in overrides]}
        told_by = [key for key in each if key not in ("", "W", "WORD")]
        for values in zip(*each.values(), strict=True):
            filled = dict(zip(each, values, strict=True))
            told = [
                value if isinstance(value, str) else json.dumps(value)
                for key, value in filled.items()
                if key in told_by
            ]
            name = " ".join([entry["case"], *filter(None, told)])
            one = {**defaults, **_fill({**entry, "case": name}, filled)}
            one["command"] = [*one["command"], *one.pop("more", [])]
            yield Case(path.stem, one.pop("case"), **one)


def _word(override: str) -> str:
    """The field of KEY=VALUE without the unit of a duration."""
    name = override.partition("=")[0].rpartition(".")[2]
    return re.sub("_(steps|epochs|percent)$", "", name)


def _fill(value: Any, filled: dict[str, Any]) -> Any:
    if isinstance(value, str):
        for name, text in filled.items():
            if name and value == f"<{name}>":
                return text
            if name:
                value = value.replace(f"<{name}>", str(text))
        return value
    if isinstance(value, dict):
        return {_fill(key, filled): _fill(inner, filled) for key, inner in value.items()}
    return [_fill(inner, filled) for inner in value] if isinstance(value, list) else value


def prepare(files: dict[str, Any], work: Path, fixtures: Path) -> None:
    """Writes the files of a case.

    A text is written as it is. An operation is an object with one of

        copy      of a fixture, file or folder; on it "append" (text), "replace" ([old, new] in its text), "json"
                  ({file: {dotted key: value}}, "absent" removes), "weights" ({tensor: change}), "words" (so many
                  rows of the word table), "remove" ([file])
        repeat    [text, times]; with "before" and "after"
        rows      [text, times], # in it is the number; with "before" and "after"
        link, folder, fifo, size (a sparse file of that many bytes)
    """
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            _write(path, content)
        elif "copy" in content:
            source = fixtures / content["copy"]
            if source.is_dir():
                shutil.copytree(source, path, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, path)
            _change(path, content)
        elif "repeat" in content:
            text, times = content["repeat"]
            _write(path, content.get("before", "") + text * times + content.get("after", ""))
        elif "rows" in content:
            text, times = content["rows"]
            body = "".join(text.replace("#", str(i)) for i in range(times))
            _write(path, content.get("before", "") + body + content.get("after", ""))
        elif "link" in content:
            path.symlink_to(content["link"].replace("{work}", str(work)).replace("{fixtures}", str(fixtures)))
        elif "folder" in content:
            path.mkdir(parents=True, exist_ok=True)
        elif "fifo" in content:
            os.mkfifo(path)
        elif "size" in content:
            with path.open("wb") as file:
                file.truncate(content["size"])
        else:
            raise ValueError(f"{name}: no such operation: {content}")


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


def _change(path: Path, content: dict[str, Any]) -> None:
    if "append" in content:
        with path.open("ab") as file:
            file.write(content["append"].encode("utf-8", "surrogateescape"))
    for old, new in content.get("replace", []):
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{path} does not hold {old!r}")
        _write(path, text.replace(old, new, 1))
    for name, changes in content.get("json", {}).items():
        file = path / name if path.is_dir() else path
        values = json.loads(file.read_text(encoding="utf-8"))
        for key, value in changes.items():
            node, *rest = values, *key.split(".")
            for part in rest[:-1]:
                node = node[part]
            if value == "absent":
                node.pop(rest[-1], None)
            elif isinstance(value, str) and value.startswith("literally "):  # NaN and such, which JSON text has not
                node[rest[-1]] = float(value.removeprefix("literally "))
            else:
                node[rest[-1]] = value
        file.write_text(json.dumps(values), encoding="utf-8")
    if "weights" in content:
        _change_weights(path / "model.safetensors", content["weights"])
    if "words" in content:
        _keep_words(path / "model.safetensors", content["words"])
    for name in content.get("remove", []):
        (path / name).unlink()


def _change_weights(path: Path, changes: dict[str, str]) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    for name, change in changes.items():
        for one in [key for key in tensors if name in ("*", key)]:
            array = tensors[one].copy()
            if change in ("nan", "inf"):
                array.reshape(-1)[0] = float(change)
            elif change == "remove":
                del tensors[one]
                continue
            elif change == "shorter":
                array = np.ascontiguousarray(array[:-1])
            elif change == "zeros":
                array = np.zeros_like(array)
            else:
                array = array.astype(change)
            tensors[one] = array
    save_file(tensors, path, metadata={"format": "pt"})


def _keep_words(path: Path, count: int) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    save_file({**tensors, name: tensors[name][:count].copy()}, path, metadata={"format": "pt"})
