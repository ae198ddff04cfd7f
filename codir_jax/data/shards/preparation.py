"""All units of a text tokenised, over processes: what is there already is left, so a stopped preparation goes on.

A unit is locked while somebody works on it (flock, which the kernel gives back when its holder dies), so that runs on
one machine share the work. Several hosts that share the folder need no lock: process i does every unit whose index is i
modulo their number.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import functools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

from codir_jax.data.data_error import MAX_PROBLEMS_TOLD
from codir_jax.data.shards import folder as shard_folder
from codir_jax.processes import claims

_UNITS_AHEAD = 2  # for each worker, so that it never waits for the next


class Unit(Protocol):
    """Work of one process at a time, that can be pickled. name: of its shard. num_bytes: of text."""

    name: str
    num_bytes: int


# Writes the shard of a unit into a folder and returns problems of the text; it can be pickled.
Write = Callable[[Any, Path], list[str]]


@dataclasses.dataclass(frozen=True)
class Together:
    """The processes of a run that prepare data together.

    Attributes:
      index, count: which of them this is, and of how many.
      barrier: waits until every process has called it with this name.
      tell: is told what is done, a line each.
      progress: called with (name, done, total, unit), returns a tqdm-like bar; None: tqdm on a terminal, first process.
      require_shared: refuses a folder that not all of them see.
    """

    index: int = 0
    count: int = 1
    barrier: Callable[[str], None] = lambda name: None
    tell: Callable[[str], None] = print
    progress: Callable | None = None
    require_shared: Callable[[Path], None] = lambda folder: None


ALONE = Together()


def shared(
    units: Sequence[Unit],
    write: Write,
    folder: Path,
    together: Together,
    *,
    num_workers: int = 0,
    is_ready: bool = False,
) -> list[str]:
    """Writes the shards of all units, each process its share; returns when all of them are there.

    Args:
      units: the same on every process.
      folder: that all processes see.
      num_workers: of each process; 0 is one a core.
      is_ready: nothing is left to do. Every process meets the barrier, whatever it found: another run may end the work
        in between.

    Returns:
      Problems of the text, the same on every process.
    """
    problems: list[str] = []
    if not is_ready:
        folder.mkdir(parents=True, exist_ok=True)
        claims.check(folder, claims.CACHE, "data.cache_dir")
        mine = units[together.index :: together.count]
        report = _report(folder, together.index, together.count)
        report.unlink(missing_ok=True)
        if together.index == 0:
            size = sum(unit.num_bytes for unit in units)
            together.tell(f"tokenising {size / 1e6:,.1f} MB of text in {len(units)} parts into {folder}")
        is_first = together.index == 0
        bar = (together.progress or functools.partial(_bar, is_first=is_first))(
            "tokenise", 0, sum(unit.num_bytes for unit in mine), "B"
        )
        try:
            problems = tokenize(mine, write, folder, num_workers=num_workers, advance=bar.update, tell=together.tell)
        finally:
            bar.close()
        if problems and together.count > 1:
            report.write_text(json.dumps(problems), encoding="utf-8")
    together.barrier(f"{folder.name} tokenised")
    for index in range(together.count):
        report = _report(folder, index, together.count)
        if index != together.index and report.is_file():
            problems += json.loads(report.read_text(encoding="utf-8"))
    return sorted(set(problems))


def _report(folder: Path, index: int, count: int) -> Path:
    return folder / f"problems-{index}-of-{count}.json"


def _bar(name: str, done: int, total: int, unit: str, *, is_first: bool):
    from tqdm import tqdm

    is_off = not (is_first and sys.stderr.isatty())
    return tqdm(desc=name, initial=done, total=total, unit=unit, unit_scale=True, disable=is_off, dynamic_ncols=True)


def tokenize(
    units: Sequence[Unit],
    write: Write,
    folder: Path,
    *,
    num_workers: int,
    advance: Callable[[int], None],
    tell: Callable[[str], None],
) -> list[str]:
    """Writes the shards of `units` that are missing in `folder`.

    Args:
      units: this process's share.
      write: of a unit.
      folder: of the shards.
      num_workers: processes; 0 is one a core.
      advance: is told the bytes of every unit that is ready.
      tell: is told what the user may want to know.

    Returns:
      Problems of the text: after the first, no new unit is begun.
    """
    missing = [unit for unit in units if not _is_done(folder, unit)]
    advance(sum(unit.num_bytes for unit in units) - sum(unit.num_bytes for unit in missing))
    if not missing:
        return []
    num_workers = min(num_workers or _num_cores(), len(missing))
    with _workers(num_workers) as pool:
        return _tokenize(missing, write, folder, pool, num_workers, advance, tell)


def _is_done(folder: Path, unit: Unit) -> bool:
    return shard_folder.read_facts(folder, unit.name) is not None


def _tokenize(missing, write, folder, pool, num_workers, advance, tell) -> list[str]:
    pending = collections.deque(missing)
    running: dict[futures.Future, tuple[Unit, contextlib.ExitStack]] = {}
    problems: list[str] = []
    is_told = False
    try:
        while pending or running:
            for _ in range(len(pending)):
                if problems or len(running) >= num_workers * _UNITS_AHEAD:
                    break
                unit = pending.popleft()
                lock = _try_lock(folder / f"{unit.name}.lock")
                if lock is None:
                    pending.append(unit)
                elif _is_done(folder, unit):
                    lock.close()
                    advance(unit.num_bytes)
                else:
                    with contextlib.ExitStack() as until_running:
                        until_running.enter_context(lock)
                        running[pool.submit(write, unit, folder)] = unit, lock
                        until_running.pop_all()
            if problems:
                pending.clear()
            if running:
                done, _ = futures.wait(running, timeout=1.0, return_when=futures.FIRST_COMPLETED)
                for future in done:
                    unit, lock = running.pop(future)
                    with lock:
                        problems += future.result()
                    advance(unit.num_bytes)
            elif pending:
                if not is_told:
                    tell(f"another run tokenises the last {len(pending)} parts of these texts; waiting for it")
                    is_told = True
                time.sleep(0.3)
    finally:
        for _, lock in running.values():
            lock.close()
    return sorted(problems)[: MAX_PROBLEMS_TOLD * 10]


def _num_cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _try_lock(path: Path) -> contextlib.ExitStack | None:
    """Returns the lock of a unit, to be closed, or None where another run holds it."""
    stack = contextlib.ExitStack()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stack.close()
        return None
    except OSError:
        pass  # a file system without locks: the rename at the end keeps the shard whole all the same
    return stack


@contextlib.contextmanager
def _workers(num_workers: int):
    """Yields an executor; one worker is this process itself. Stopped at once when the work ends in an error."""
    if num_workers == 1:
        yield _Here()
        return
    # Not forked: the parent may hold devices and threads.
    before = set(multiprocessing.active_children())
    pool = futures.ProcessPoolExecutor(
        num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _start_worker() -> None:
    # The parent hears of ^C and ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that was killed cannot end its workers, and they would wait for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


class _Here(futures.Executor):
    def submit(self, function, /, *arguments, **named):
        future: futures.Future = futures.Future()
        future.set_result(function(*arguments, **named))
        return future
