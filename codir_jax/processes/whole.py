"""Files and folders that appear whole: each is written aside, under a name that nobody can foresee, and renamed.

Killed at any moment, or with an error, what was there before is there still (`files_into`: until its last instant).
Names aside begin with a dot and lie in the same folder; `clean` removes what a killed process left.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codir_jax.processes.user_error import CannotWriteError, UserError

_HEX = 32
_ASIDE = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{{_HEX}}}\.(?P<kind>part|old)(\.\w+)?")
_WORDS = ("No space left on device", "File too large", "requested and")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def check_output(path: str, *, inputs: Sequence[str | os.PathLike] = (), may_replace: bool = True) -> None:
    """Refuses the file of --output before anything is computed; "-" is standard output.

    Args:
      inputs: files and folders that are read: none of them, nor a file in one of them, is the output, under whatever
        name or link.
      may_replace: whether a file that is there already is replaced.

    Raises:
      UserError: an empty name, a folder, no folder to put it in, an input, or a file that is there already.
    """
    if path == "-":
        return
    if not path.strip():
        raise UserError("--output is empty; name a file")
    try:
        real = Path(path).resolve()
        is_there = real.exists()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL character, a loop of links
        raise UserError(f"--output={path!r} cannot be a file ({error}); name another") from error
    if real.is_dir():
        raise UserError(f"--output={path} is a folder; name a file in it")
    if not real.parent.is_dir():
        raise UserError(f"--output={path}: there is no folder {Path(path).parent}; make it first")
    for one in inputs:
        if is_there and os.path.exists(one) and (os.path.samefile(one, real) or Path(one).resolve() in real.parents):
            raise UserError(f"--output={path} is read as an input ({one}), and it would be lost; name another output")
    if is_there and not may_replace:
        raise UserError(f"--output: {path} is there already; remove it, or name another output")


@contextlib.contextmanager
def file(path: str | os.PathLike, *, binary: bool = False) -> Iterator:
    """A file open for writing that takes the place of `path` when it is whole; "-" is standard output.

    What is no file on a disk (/dev/null, a pipe) is written as it comes. A link is followed: the file that it names is
    replaced.
    """
    mode, encoding = ("wb", None) if binary else ("w", "utf-8")
    if path == "-":
        yield sys.stdout
        return
    real = Path(path).resolve()
    if real.exists() and not real.is_file():
        with real.open(mode, encoding=encoding) as direct:
            yield direct
        return
    with aside(real) as place, place.open(mode, encoding=encoding) as opened:
        yield opened


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, with its suffix, that takes its place in one rename at the end.

    Raises:
      CannotWriteError: no room, or a disk that is read only.
    """
    path = Path(path)
    place = path.with_name(f"{_name_aside(path.stem, 'part')}{path.suffix}")
    with full_disk_told(path):
        try:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
            yield place
            os.replace(place, path)
        finally:
            place.unlink(missing_ok=True)


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` that takes its place at the end; for an instant there is none under that name.

    Raises:
      CannotWriteError: no room, or a disk that is read only.
    """
    path = Path(path)
    place, old = (path.with_name(_name_aside(path.name, kind)) for kind in ("part", "old"))
    with full_disk_told(path):
        try:
            place.mkdir(parents=True)
            yield place
            if path.is_symlink() or path.exists():
                path.rename(old)
            place.rename(path)
        finally:
            _remove(place)
            if path.exists():
                _remove(old)


@contextlib.contextmanager
def files_into(path: Path, *, last: str, stale: Sequence[str] = ()) -> Iterator[Path]:
    """An empty folder in the folder `path`, whose files move to `path` at the end; other files there stay.

    Args:
      last: a file without which readers refuse the folder: it goes first and comes last, so that nobody reads new files
        beside old ones.
      stale: files that go, unless they are among the new ones.

    Raises:
      CannotWriteError: no room, or a disk that is read only; nothing was moved.
    """
    path = Path(path)
    place = path / _name_aside("files", "part")
    with full_disk_told(path):
        try:
            place.mkdir(parents=True)
            yield place
            (path / last).unlink(missing_ok=True)
            new = [file.relative_to(place) for file in sorted(place.rglob("*")) if file.is_file()]
            for name in sorted(set(map(Path, stale)) - set(new)):
                (path / name).unlink(missing_ok=True)
            for name in sorted(new, key=lambda name: name == Path(last)):
                (path / name).parent.mkdir(exist_ok=True)
                os.replace(place / name, path / name)
        finally:
            _remove(place)


@contextlib.contextmanager
def full_disk_told(path: str | os.PathLike) -> Iterator[None]:
    """An error of a full or read-only disk names `path`, whichever library met it."""
    try:
        yield
    except CannotWriteError:
        raise
    except Exception as error:
        # safetensors, tokenizers and array records have errors of their own; numpy's tells two numbers.
        told = next((words for words in _WORDS if words in str(error)), None)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            told = error.strerror
        if told:
            raise CannotWriteError(f"{path} cannot be written ({told})") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file in one rename."""
    with aside(path) as place:
        place.write_text(text, encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes `values` in one rename."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def clean(parent: Path) -> None:
    """Removes what a killed process left aside in `parent`; a folder that was moved away and not replaced goes back.

    Only where no other process writes: under the lock of a workdir.
    """
    for path in Path(parent).iterdir():
        found = _ASIDE.fullmatch(path.name)
        if found and found["kind"] == "old" and not (original := path.with_name(found["name"])).exists():
            path.rename(original)
        elif found:
            _remove(path)


def _name_aside(name: str, kind: str) -> str:
    return f".{name[:180]}.{uuid.uuid4().hex}.{kind}"


def _remove(path: Path) -> None:
    """Removes a file, a link (not what it names) or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
