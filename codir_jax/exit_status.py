"""How a command ended: an error told in a sentence, and the status that it leaves with."""

import signal
import sys

# `codir train --help` and launch/README.md list them; launchers start a run again on PREEMPTED and LOST.
BAD_INPUT, NOT_FINITE, CANNOT_WRITE = 2, 3, 4
_KINDS = (
    (ValueError, BAD_INPUT),
    (FileNotFoundError, BAD_INPUT),
    (FloatingPointError, NOT_FINITE),
    (OSError, CANNOT_WRITE),
)


def of(error: BaseException) -> int | None:
    """The exit status of an error, which is told on standard error; None, and nothing told, for a bug."""
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):  # `codir predict ... | head`
        sys.stderr.close()
        return 0
    if (stopped_by := getattr(error, "signal_number", None)) is not None:
        from codir_jax import distributed

        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return distributed.PREEMPTED if stopped_by == signal.SIGTERM else 128 + stopped_by
    status = next((status for kind, status in _KINDS if isinstance(error, kind)), None)
    if status is not None:
        hint = "; make room, then the same command goes on" if status == CANNOT_WRITE else ""
        print(f"error: {error}{hint}", file=sys.stderr)
    return status
