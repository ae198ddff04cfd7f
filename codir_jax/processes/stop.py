"""The request to stop: Ctrl-C and SIGTERM end a run after a whole step, the same one on every process."""

import contextlib
import os
import signal
import sys

from codir_jax.processes import distributed


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM); `step` steps are finished and checkpointed."""

    def __init__(self, step: int, signal_number: int):
        self.step, self.signal_number = step, signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")


class StopRequest:
    """While active, SIGINT and SIGTERM ask the loop to stop after the current step; a second Ctrl-C stops at once.

    Of several processes each may be asked. JAX's preemption service, which listens to SIGTERM in each, then agrees on
    a step that none of them has passed, without a step waiting for another process; Ctrl-C is handed on to it.

    Attributes:
      signal_number: what this process was asked by; SIGTERM where another process was asked.
    """

    def __init__(self):
        self.signal_number: int | None = None
        self._previous: dict = {}
        self._num_asked = 0

    def __enter__(self):
        # A handler of ours for SIGTERM would take it from JAX's service.
        ours = (signal.SIGINT,) if distributed.is_several() else (signal.SIGINT, signal.SIGTERM)
        try:
            for number in ours:
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:
            pass  # not the main thread: the caller owns the signals
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def is_due(self) -> bool:
        """Whether the run is to stop now; every process asks after every step."""
        if distributed.is_several():
            from jax.experimental import multihost_utils

            # Counted from the start of the process, not of the run: a signal before the first step of a resumed run
            # is agreed on as number 1, and an equal number is waited for.
            self._num_asked += 1
            is_due = multihost_utils.reached_preemption_sync_point(self._num_asked)
            if is_due and self.signal_number is None:
                self.signal_number = signal.SIGTERM
            return is_due
        return self.signal_number is not None

    def _handle(self, number, _frame):
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        print("\nstopping after this step; a checkpoint is written ...", file=sys.stderr, flush=True)
        if distributed.is_several():
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def preemptible():
    """SIGTERM before the first step or after the last one ends a command like one between them: there is more to do."""
    try:
        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(distributed.PREEMPTED))
    except ValueError:  # not the main thread: the caller owns the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
