"""The request to stop: Ctrl-C and SIGTERM end a run after a whole step, the same one on every process.

It is told at once that a signal was heard: a handler of Python runs only between two of its instructions, and a step
or a compilation may take minutes, so a thread reads the signal's number from a pipe.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from codir_jax.processes import distributed

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a signal is answered with; a `StopRequest` says more while it is active.
_sentence = "stopping ..."
_is_announced = False
_num_echoes = 0  # signals on their way that this process sends itself, which are not answered
_active: "StopRequest | None" = None


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM); `step` steps are finished and checkpointed."""

    def __init__(self, step: int, signal_number: int):
        self.step, self.signal_number = step, signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")


class Ended(SystemExit):
    """A signal ended the command where no loop runs; `code` is the exit status."""


class CutShort(BaseException):
    """What may be left unfinished was: raised by `poll`, for who saves and ends the run."""


class StopRequest:
    """While active, SIGINT and SIGTERM ask the loop to stop after the current step; a second Ctrl-C stops at once.

    Of several processes each may be asked. JAX's preemption service, which listens to SIGTERM in each, then agrees on
    a step that none of them has passed, without a step waiting for another process; Ctrl-C is handed on to it.

    Attributes:
      signal_number: what this process was asked by; SIGTERM where another process was asked.
    """

    def __init__(self):
        self.signal_number: int | None = None
        self.may_be_cut = False
        self._previous: dict = {}
        self._num_asked = 0

    def __enter__(self):
        global _active, _sentence
        # A handler of ours for SIGTERM would take it from JAX's service.
        ours = (signal.SIGINT,) if distributed.is_several() else _SIGNALS
        try:
            for number in ours:
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:
            return self  # not the main thread: the caller owns the signals
        self._before = _active, _sentence
        _active, _sentence = self, "stopping after this step; a checkpoint is written ..."
        return self

    def __exit__(self, *_):
        global _active, _sentence
        if not self._previous:
            return
        _active, _sentence = self._before
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)

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
        if not _is_announced:
            print(f"\n{_sentence}", file=sys.stderr, flush=True)
        if distributed.is_several():
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def may_be_cut() -> Iterator[None]:
    """What runs inside can be done again: where a stop was asked for, its next `poll` raises CutShort.

    Several processes finish it: they agree on a stop after steps only.
    """
    request = _active
    if request is None or distributed.is_several():
        yield
        return
    request.may_be_cut = True
    try:
        poll()
        yield
    finally:
        request.may_be_cut = False


def poll() -> None:
    """Between two batches of an evaluation.

    Raises:
      CutShort: a stop was asked for, and this may be left unfinished (`may_be_cut`).
    """
    if _active is not None and _active.may_be_cut and _active.signal_number is not None:
        raise CutShort


@contextlib.contextmanager
def preemptible() -> Iterator[None]:
    """For a whole command: SIGTERM, also while libraries are imported, ends it with a status that says: start it again.

    The loop takes the signals over while steps run (`StopRequest`).
    """
    previous = {}
    try:
        previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, _leave)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as under nohup
            previous[signal.SIGINT] = signal.signal(signal.SIGINT, _leave)
    except ValueError:  # not the main thread: the caller owns the signals
        yield
        return
    try:
        with _announced(), _nothing_lost():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # see `environment.use_huge_pages`
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _leave(number, frame) -> None:
    """Ends the command: by an exception, so that what is begun is tidied up, but at once while a module is imported.

    Libraries try imports and go on without, whatever exception ended them: one of ours would be lost there.
    """
    status = distributed.PREEMPTED if number == signal.SIGTERM else 128 + number
    time.sleep(0.05)  # for the thread that answers
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(status)
        frame = frame.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(status)


@contextlib.contextmanager
def _nothing_lost() -> Iterator[None]:
    """Sends a signal again whose exception was ignored: it met a callback of the garbage collector, or a finalizer."""
    before = sys.unraisablehook

    def hear(ignored):
        if not isinstance(ignored.exc_value, Ended | KeyboardInterrupt):
            before(ignored)
            return
        number = signal.SIGTERM if isinstance(ignored.exc_value, Ended) else signal.SIGINT
        # A little later, from a thread: here it would be ignored once more.
        threading.Timer(0.02, _send_again, (number,)).start()

    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send_again(number: int) -> None:
    global _num_echoes
    _num_echoes += 1
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Answers a signal at once on standard error, and the second one too."""
    global _is_announced
    if _is_announced:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_answer, args=(reader,), name="signals", daemon=True).start()
    _is_announced = True
    try:
        yield
    finally:
        _is_announced = False
        signal.set_wakeup_fd(before)
        os.close(writer)


def _answer(reader: int) -> None:
    """Python's own handler in C writes the number of each signal into the pipe."""
    global _num_echoes
    num_heard = 0
    while numbers := os.read(reader, 64):
        for number in numbers:
            if _num_echoes:
                _num_echoes -= 1
            elif number in _SIGNALS and num_heard < 2:
                num_heard += 1
                told = _sentence if num_heard == 1 else "stopping at once ..."
                if num_heard == 1 or number == signal.SIGINT:
                    os.write(2, f"\n{told}\n".encode())
    os.close(reader)
