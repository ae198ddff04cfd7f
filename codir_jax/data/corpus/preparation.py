"""All units of a corpus tokenised, over processes: what is there already is left, so a stopped preparation goes on.

A unit is locked while somebody works on it (flock, which the kernel gives back when its holder dies), so that runs on
one machine share the work. Several hosts that share the folder need no lock: process i does every unit whose index is i
modulo their number.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

from codir_jax.data.batch import MAX_PROBLEMS_TOLD
from codir_jax.data.corpus import shards
from codir_jax.data.corpus.sources import Unit

_UNITS_AHEAD = 2  # for each worker, so that it never waits for the next


def tokenize(
    units: Sequence[Unit],
    packing: shards.Packing,
    folder: Path,
    *,
    num_workers: int,
    advance: Callable[[int], None],
    tell: Callable[[str], None],
) -> list[str]:
    """Writes the shards of `units` that are missing in `folder`.

    Args:
      units: this process's share.
      packing: how text becomes chunks.
      folder: of the shards.
      num_workers: processes; 0 is one a core.
      advance: is told the bytes of every unit that is ready.
      tell: is told what the user may want to know.

    Returns:
      Problems of the text: after the first, no new unit is begun.
    """
    missing = [unit for unit in units if not shards.is_done(folder, unit)]
    advance(sum(unit.num_bytes for unit in units) - sum(unit.num_bytes for unit in missing))
    if not missing:
        return []
    num_workers = min(num_workers or _num_cores(), len(missing))
    with _workers(num_workers) as pool:
        return _tokenize(missing, packing, folder, pool, num_workers, advance, tell)


def _tokenize(missing, packing, folder, pool, num_workers, advance, tell) -> list[str]:
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
                elif shards.is_done(folder, unit):
                    lock.close()
                    advance(unit.num_bytes)
                else:
                    with contextlib.ExitStack() as until_running:
                        until_running.enter_context(lock)
                        running[pool.submit(shards.write, unit, packing, folder)] = unit, lock
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
                    tell(f"another run tokenises the last {len(pending)} parts of this corpus; waiting for it")
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
