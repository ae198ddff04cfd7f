"""A folder that all processes of a run see: found out before they put work into it."""

import socket
import time
import uuid
from pathlib import Path

from codir_jax.processes import distributed
from codir_jax.processes.user_error import UserError


def require_shared(folder: Path, flag: str) -> None:
    """Makes the folder, and refuses one that not all processes of the run see.

    Raises:
      UserError: naming the process and `flag`, which sets the folder.
    """
    if not distributed.is_several():
        return

    def leave_mark() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / f"{uuid.uuid4().hex}.seen"
        mark.write_text(mark.name, encoding="utf-8")
        return mark.name

    name = distributed.first_decides(leave_mark)
    is_seen = reads(folder / name, name)
    distributed.barrier()
    if distributed.process_id() == 0:
        (folder / name).unlink(missing_ok=True)
    if not is_seen:
        raise not_shared(folder, flag)


def not_shared(folder: Path, flag: str) -> UserError:
    """The error that names this process and the flag that sets the folder."""
    return UserError(
        f"process {distributed.process_id()} on {socket.gethostname()} does not see the {folder} that process 0 "
        f"writes; {flag} must be a folder on a disk that all hosts share"
    )


def reads(path: Path, text: str, seconds: float = 60) -> bool:
    """Whether this process finds `text` in the file; a network disk may show it late."""
    end = time.monotonic() + seconds
    while True:
        try:
            if path.read_text(encoding="utf-8").strip() == text:
                return True
        except OSError:
            pass
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
