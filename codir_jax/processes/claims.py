"""The claim on a folder: one that is not empty and not ours is refused by name before anything is written in it.

A folder is ours if it holds the marker of its kind, an empty file `.codir-KIND` that is made before everything else. A
folder of another kind is not: an export into a run would take the run's config.json.

In a folder of ours a link to a file is refused, since a file that is written through it lies elsewhere. A link to a
folder (checkpoints/ on another disk) is followed.
"""

import contextlib
import errno
import fnmatch
import os
from pathlib import Path
from typing import NamedTuple

from codir_jax.processes.user_error import CannotWriteError, UserError

_MAX_NAMES_TOLD = 5
_FULL = (errno.ENOSPC, errno.EDQUOT)
# On the top folder of a disk before anybody wrote to it.
_OF_THE_SYSTEM = frozenset({"lost+found"})
# Names by which a folder may be one of ours whose marker was left behind.
_OURS = frozenset({"lock", "job.json", "results.json", "table.json"})


class Kind(NamedTuple):
    """What a folder is for.

    Attributes:
      name: of the marker. told: what such a folder holds, in words.
      known: patterns; a folder without a marker that holds nothing else is of this kind too.
    """

    name: str
    told: str
    known: tuple[str, ...] = ()

    @property
    def marker(self) -> str:
        return f".codir-{self.name}"


RUN = Kind("run", "a run of `codir train`")
JOB = Kind("job", "a job of `codir compress`")
SWEEP = Kind("sweep", "a sweep")
EXPORT = Kind("export", "an exported model")
TOKENIZER = Kind("tokenizer", "a tokenizer")
WEIGHED = Kind("weighed", "texts of `codir weigh`")
BENCH = Kind("bench", "measurements of `codir bench`")
SUBMISSION = Kind("submission", "files for the GLUE leaderboard")
# Its name is a hash of all that it is made from, so whatever lies in it is of the cache.
CACHE = Kind("cache", "a cache", known=("*",))
KINDS = (RUN, JOB, SWEEP, EXPORT, TOKENIZER, WEIGHED, BENCH, SUBMISSION, CACHE)


def check(folder: str | os.PathLike, kind: Kind, flag: str) -> None:
    """Refuses a folder that `claim` would refuse; nothing is written.

    Args:
      folder: it need not exist.
      flag: that names the folder, such as "--output".

    Raises:
      UserError: an empty name, no folder, one that is not empty and not of this kind, or links to files in it.
    """
    text = os.fspath(folder)
    if not text.strip():
        raise UserError(f"{flag} is empty; name a folder")
    try:
        names = sorted(set(os.listdir(text)) - _OF_THE_SYSTEM)
    except FileNotFoundError:
        if os.path.islink(text):
            raise UserError(f"{flag}={text} is a link to {os.readlink(text)}, which is not there") from None
        return
    except NotADirectoryError:
        raise UserError(f"{flag}={text}: it, or what it lies in, is a file; name a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise UserError(f"{flag}={text} cannot be read ({error}); name another folder") from error
    if names and kind.marker not in names and not _is_known(names, kind):
        raise UserError(_not_ours(text, names, kind, flag))
    for name in names:
        path = os.path.join(text, name)
        if os.path.islink(path) and not os.path.isdir(path):
            raise UserError(
                f"{flag}={text}: {name} is a link to {os.readlink(path)}, and no file is written through a link; "
                "remove the link"
            )


def claim(folder: str | os.PathLike, kind: Kind, flag: str) -> None:
    """Makes `folder` where it is missing and marks it as one of this kind; one that has the mark stays as it is.

    Raises:
      UserError: of `check`.
      CannotWriteError: the folder cannot be made or written.
    """
    check(folder, kind, flag)
    try:
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(Path(folder) / kind.marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    except OSError as error:
        next_move = "make room on that disk" if error.errno in _FULL else "choose another"
        raise CannotWriteError(f"cannot write to {flag}={folder} ({error.strerror}); {next_move}") from error


def _is_known(names: list[str], kind: Kind) -> bool:
    return bool(kind.known) and all(any(fnmatch.fnmatch(name, known) for known in kind.known) for name in names)


def _not_ours(folder: str, names: list[str], kind: Kind, flag: str) -> str:
    holds = next((other.told for other in KINDS if other.marker in names), None)
    if holds is None:
        more = len(names) - _MAX_NAMES_TOLD
        listed = ", ".join(names[:_MAX_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
        lost = f"; a copy that lost its marker gets it by `touch {folder}/{kind.marker}`" if _OURS & set(names) else ""
        return (
            f"{flag}={folder} is not empty and does not hold {kind.told}: {listed}. Nothing was written; name a new or "
            f"an empty folder{lost}"
        )
    return f"{flag}={folder} is not empty: it holds {holds}, not {kind.told}; name a new or an empty folder"
