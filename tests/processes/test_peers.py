"""The watch of processes over each other, both ends in this process; what would end it is written down instead."""

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from codir_jax.processes import peers


@pytest.fixture
def world(monkeypatch):
    """Makes a world of `count` processes; `ended` holds (process, sentence) of those that would have ended."""
    ended, made = [], []
    monkeypatch.setattr(peers, "GRACE", 0.3)

    class Recording(peers.Peers):
        def _end(self, sentence):
            if not self._parting.is_set():
                self._parting.set()
                ended.append((self._id, sentence))

    def make(count, timeout=60.0, silent=()):
        listener = socket.create_server(("127.0.0.1", 0))
        for index in range(count):
            ours = {"listener": listener} if index == 0 else {"address": listener.getsockname()}
            made.append(Recording(index, count, timeout, **ours))
            if index in silent:
                monkeypatch.setattr(made[-1], "_send", lambda line: None)
        threads = [threading.Thread(target=process.meet) for process in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return made, ended

    yield make
    for process in made:
        for link in list(process._links):
            _close(link)


def _close(link):
    """As the system does when a process ends."""
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _close_all(process):
    for link in list(process._links):
        _close(link)


def _await(ended, count, seconds=5):
    end = time.monotonic() + seconds
    while len(ended) < count and time.monotonic() < end:
        time.sleep(0.01)
    return dict(ended)


def test_a_closed_connection_is_a_dead_process_and_all_are_told(world):
    processes, ended = world(3)
    _close_all(processes[2])
    told = _await(ended, 3)
    assert told[0] == told[1]
    assert "process 2 (" in told[1] and "connection is closed" in told[1] and "start all 3" in told[1]
    assert "process 0 (127.0.0.1)" in told[2]  # the one that was cut off sees the first go


def test_the_first_process_is_watched_by_the_others(world):
    processes, ended = world(2)
    _close_all(processes[0])
    assert "process 0 (127.0.0.1) is lost" in _await(ended, 2)[1]  # process 0 sees its own end too, and may be first


def test_a_host_that_falls_silent_is_lost_after_the_timeout(world):
    _, ended = world(2, timeout=0.4, silent=(1,))
    started = time.monotonic()
    assert "nothing was heard of it for 0.4 s" in _await(ended, 1)[0]
    assert time.monotonic() - started < 3


def test_those_that_are_alive_are_left_alone(world):
    _, ended = world(3, timeout=0.4)
    time.sleep(1.2)
    assert ended == []


def test_a_process_that_fails_alone_is_told_with_its_reason(world):
    processes, ended = world(2)
    processes[1].part("ValueError: no\nsuch file")
    assert "it ended: ValueError: no such file" in _await(ended, 1)[0]


def test_processes_that_part_together_do_not_blame_each_other(world):
    processes, ended = world(2)
    processes[1].part("the same reason")
    threading.Timer(0.05, _close_all, (processes[1],)).start()
    processes[0].part("the same reason")  # it waits until the other is gone
    time.sleep(0.6)
    assert ended == []


ABORTS = """
import ctypes, os, threading, time
from codir_jax.processes import peers
peers.hear_before_abort(1.0)
def watch():
    time.sleep(0.3)
    os._exit(peers.LOST)
if {is_lost}:
    threading.Thread(target=watch, daemon=True).start()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
time.sleep(20)
"""


@pytest.mark.parametrize(("is_lost", "status"), [(True, peers.LOST), (False, -signal.SIGABRT)])
def test_an_abort_of_c_waits_for_the_watch_and_then_goes_on(is_lost, status):
    """JAX's client aborts when process 0 is killed; which of the two is first is chance."""
    done = subprocess.run([sys.executable, "-c", ABORTS.format(is_lost=is_lost)], timeout=30, check=False)
    assert done.returncode == status
