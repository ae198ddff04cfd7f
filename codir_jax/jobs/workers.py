"""Several runs at once on one machine: a process for each run, with a part of the machine to itself.

Nothing heavy is imported at the top: a process takes its cores or its card before JAX is imported in it.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from codir_jax.processes import claims, console, environment, exit_status, stop
from codir_jax.processes.user_error import UserError


class Run(NamedTuple):
    """One run.

    Attributes:
      config: path of the config, with its arguments, or a whole one. overrides: (dotted key, text), in order.
      workdir: of the run; log.txt in it holds what the run prints.
    """

    config: str | ConfigDict
    overrides: tuple[tuple[str, str], ...]
    workdir: str


class Failure(NamedTuple):
    """A run that did not come to its end: its workdir, its exit status, and why."""

    workdir: str
    status: int
    reason: str

    def __str__(self) -> str:
        return f"{self.workdir}: {self.reason}"


class Place(NamedTuple):
    """A part of the machine: environment variables that show a process no more than this, or its cores."""

    variables: dict[str, str]
    cores: frozenset[int] = frozenset()

    def take(self) -> None:
        """Binds this process, before JAX is imported in it."""
        os.environ.update(self.variables)
        if self.cores:
            os.sched_setaffinity(0, self.cores)


def is_finished(workdir: str | Path) -> bool:
    """Whether a run left its results there."""
    return (Path(workdir) / "results.json").exists()


def train(run: Run) -> None:
    """Runs the stage of a run to its end, in this process."""
    from codir_jax.jobs.train import train as train_stage

    train_stage(run.config, run.workdir, run.overrides)


def run_all(runs: Sequence[Run], num_workers: int = 0, work: Callable[[Run], None] = train) -> list[Failure]:
    """Does the unfinished runs in their order, several at once; returns the failures, in the order of their ends.

    A run that fails, or whose process is killed, does not end the others. Ctrl-C and SIGTERM stop all runs, each after
    a checkpoint, and end this process too (SIGTERM with status 75). A run ends with this process, however that ends.

    Args:
      num_workers: runs at once; 0 is one a card, or one per two cores.
      work: what is done for a run, a function at the top level of a module; it is called in the run's own process.

    Raises:
      UserError: a negative number of workers.
    """
    check(num_workers)
    waiting = [run for run in runs if not is_finished(run.workdir)]
    console.say(f"{len(runs)} runs, {len(runs) - len(waiting)} finished before")
    free, running, failures, num_ended = places(num_workers) if waiting else [], [], [], 0
    num_waiting, waiting = len(waiting), waiting[::-1]
    with stop.preemptible(), _ending_together(running):
        while waiting or running:
            while waiting and free:
                running.append(_Process(waiting.pop(), free.pop(0), work))
            ended = connection.wait([one.process.sentinel for one in running])
            for one in [one for one in running if one.process.sentinel in ended]:
                running.remove(one)
                free.append(one.place)
                num_ended += 1
                failure = one.failure()
                console.say(f"[{num_ended}/{num_waiting}] {failure or one.run.workdir}")
                failures += [failure] if failure else []
    return failures


def check(num_workers: int) -> None:
    """Refuses what is no number of workers.

    Raises:
      UserError: it is not a whole number, or is negative.
    """
    if not isinstance(num_workers, int) or isinstance(num_workers, bool) or num_workers < 0:
        raise UserError(f"--workers={num_workers}: expected 1 or more, or 0 for one a card or per two cores")


def places(num_workers: int = 0) -> list[Place]:
    """The part of the machine of each worker: a share of the cards, or of the cores where there is none.

    Workers that share a card share its memory too.
    """
    cards = _cards()
    if cards:
        num_workers = num_workers or len(cards)
        found = []
        for i in range(num_workers):
            variables = {"CUDA_VISIBLE_DEVICES": ",".join(cards[i % len(cards) :: num_workers])}
            sharing = len(range(i % len(cards), num_workers, len(cards)))
            if sharing > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
                variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.3f}"
            found.append(Place(variables))
        return found
    if not hasattr(os, "sched_setaffinity"):  # not Linux: the system shares the cores out
        return [Place({})] * (num_workers or max((os.cpu_count() or 1) // 2, 1))
    cores = sorted(os.sched_getaffinity(0))
    num_workers = num_workers or max(len(cores) // 2, 1)
    return [Place({}, frozenset(cores[i % len(cores) :: num_workers])) for i in range(num_workers)]


def _cards() -> list[str]:
    """The NVIDIA cards that this process may use, as CUDA names them."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    shown, installed = os.environ.get("CUDA_VISIBLE_DEVICES"), Path("/proc/driver/nvidia/gpus")
    if shown is None and installed.is_dir():
        return [str(i) for i, _ in enumerate(installed.iterdir())]
    return [card for card in (shown or "").split(",") if card]


class _Process:
    """A run in its process."""

    def __init__(self, run: Run, place: Place, work: Callable[[Run], None]):
        self.run, self.place = run, place
        context = multiprocessing.get_context("spawn")
        self._told, tell = context.Pipe(duplex=False)
        self.process = context.Process(target=_run_in_place, args=(run, place, work, tell))
        self.process.start()
        tell.close()

    def failure(self) -> Failure | None:
        """What went wrong in the process, which has ended."""
        self.process.join()
        with contextlib.suppress(EOFError):
            if self._told.poll():
                said = self._told.recv()
                return Failure(self.run.workdir, *said) if said else None
        code = self.process.exitcode
        reason = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return Failure(self.run.workdir, code, f"{reason}; see {self.run.workdir}/log.txt")


def _run_in_place(run: Run, place: Place, work: Callable[[Run], None], tell: connection.Connection) -> None:
    """In the run's own process: `tell`s None, or (exit status, what went wrong)."""
    place.take()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    environment.set_defaults()
    try:
        _print_to_log(Path(run.workdir))
        work(run)
    except (Exception, KeyboardInterrupt) as error:
        status, reason = exit_status.of(error), str(error) or type(error).__name__
        if status is None:
            traceback.print_exc()
            status, reason = 1, f"{type(error).__name__}: {reason}; traceback in {run.workdir}/log.txt"
        tell.send((status, reason))
    else:
        tell.send(None)


def _print_to_log(workdir: Path) -> None:
    """What Python and the libraries beneath it print goes to log.txt."""
    claims.claim(workdir, claims.RUN, "--output")
    with open(workdir / "log.txt", "ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _stop_with_parent() -> None:
    """A parent that was killed cannot stop its runs: they save and stop, as on any SIGTERM."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    os._exit(1)


@contextlib.contextmanager
def _ending_together(running: list[_Process]):
    """An error here (Ctrl-C, SIGTERM) ends the runs first; each writes a checkpoint."""
    try:
        yield
    except BaseException:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.join()
        raise
