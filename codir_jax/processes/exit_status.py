"""How a command ended: an error told in a sentence, and the status that it leaves with.

`codir train --help` and launch/README.md list the statuses; launchers start a run again on PREEMPTED and LOST.
"""

import errno
import re
import signal
import sys

from codir_jax.processes import stop
from codir_jax.processes.user_error import CannotWriteError

# The system's words about a file of the user's; any other OSError is a fault of the program.
_ABOUT_FILES = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOENT", "EISDIR", "ENOTDIR", "ENAMETOOLONG", "EFBIG")
    if hasattr(errno, name)
)
# How XLA says that an array has no room, whatever the device.
_NO_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)


def of(error: BaseException) -> int | None:
    """The exit status of an error, which is told on standard error; None, and nothing told, for a bug."""
    if isinstance(error, stop.Ended):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):  # `codir predict ... | head`
        sys.stderr.close()
        return 0
    if (stopped_by := getattr(error, "signal_number", None)) is not None:
        from codir_jax.processes import distributed

        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return distributed.PREEMPTED if stopped_by == signal.SIGTERM else 128 + stopped_by
    if isinstance(error, MemoryError) or (type(error).__name__ == "JaxRuntimeError" and _NO_MEMORY.search(str(error))):
        told = str(error).partition("\n")[0][:200]
        print(
            f"error: out of memory ({told}); lower data.batch_size or data.eval_batch_size, or raise "
            "train.num_microbatches; `codir plan` tells what a run needs",
            file=sys.stderr,
        )
        return 2
    is_about_files = isinstance(error, OSError) and error.errno in _ABOUT_FILES
    status = CannotWriteError.exit_status if is_about_files else getattr(error, "exit_status", None)
    if status is not None:
        hint = "; make room, then the same command goes on" if status == CannotWriteError.exit_status else ""
        print(f"error: {error}{hint}", file=sys.stderr)
    return status
