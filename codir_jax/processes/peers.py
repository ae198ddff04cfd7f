"""A watch over the processes of a run: each is connected to process 0, which tells all the others who is gone.

JAX's own service notices a dead process too, after its heartbeat timeout, but ends the others with a C++ stack trace
that names no host. Here a killed process is noticed when the system closes its connection, a silent host after the
timeout, and the others end with a sentence.

Lines, both ways: "" (alive), "bye" (leaves, all is well), "failed REASON" (leaves); to process 0 "hello ID HOST";
from it "lost SENTENCE".
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import threading
import time

# Exit status of a process that ended because another one is gone (or never came): start all of them again.
LOST = 76
# Seconds in which processes that fail together, for the same reason, may say so themselves.
GRACE = 5.0


class Peers:
    """This process's view of the others.

    Args:
      process_id, num_processes: which one this is, how many there are.
      timeout: seconds of silence after which a process is lost.
      listener: listening socket of process 0, None elsewhere.
      address: (host, port) of that socket.
    """

    def __init__(self, process_id: int, num_processes: int, timeout: float, *, listener=None, address=None):
        self.timeout = timeout
        self._id, self._count = process_id, num_processes
        self._listener, self._address = listener, address
        self._links: dict[socket.socket, _Link] = {}
        self._parting = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def meet(self) -> None:
        """Connects with process 0, or with all the others, and starts the watch."""
        if self._listener is not None:
            while len(self._links) < self._count - 1:
                connection, _ = self._listener.accept()
                hello = b""
                while not hello.endswith(b"\n"):
                    hello += connection.recv(1)
                _, index, host = hello.decode().split()
                self._links[connection] = _Link(int(index), host)
            self._listener.close()
        else:
            connection = socket.create_connection(self._address)
            connection.sendall(f"hello {self._id} {socket.gethostname() or 'unknown'}\n".encode())
            self._links[connection] = _Link(0, self._address[0])
        for connection in self._links:
            connection.settimeout(5)
        self._thread.start()

    def part(self, reason: str) -> None:
        """Says why this process leaves; process 0 lets the others go first, for JAX's service is in it."""
        self._parting.set()
        reason = " ".join(reason.split())
        self._send(f"failed {reason}" if reason else "bye")
        if self._id == 0:
            end = time.monotonic() + GRACE + 5
            while self._links and time.monotonic() < end:
                time.sleep(0.02)

    def _watch(self) -> None:
        selector = selectors.DefaultSelector()
        for connection in self._links:
            selector.register(connection, selectors.EVENT_READ)
        beat = min(self.timeout / 4, 5.0)
        next_beat = time.monotonic()
        while self._links:
            for key, _ in selector.select(max(next_beat - time.monotonic(), 0)):
                connection = key.fileobj
                if not self._read(connection):
                    selector.unregister(connection)
                    link = self._links.pop(connection)
                    if not link.has_parted:
                        self._lose(link, "its connection is closed: it was killed, or its host is down")
            now = time.monotonic()
            if now >= next_beat:
                self._send("")
                next_beat = now + beat
            for link in self._links.values():
                if now - link.last_heard > self.timeout:
                    self._lose(link, f"nothing was heard of it for {self.timeout:g} s (--heartbeat_timeout)")

    def _read(self, connection) -> bool:
        """Takes in what was sent; False at the end of the connection."""
        link = self._links[connection]
        try:
            received = connection.recv(65536)
        except OSError:
            received = b""
        link.last_heard = time.monotonic()
        *lines, link.rest = (link.rest + received).split(b"\n")
        for line in lines:
            word, _, text = line.decode(errors="replace").partition(" ")
            if word == "bye":
                link.has_parted = True
            elif word == "failed":
                link.has_parted = True
                threading.Thread(target=self._lose, args=(link, f"it ended: {text}", GRACE), daemon=True).start()
            elif word == "lost":
                self._end(text)
        return bool(received)

    def _lose(self, link, why: str, grace: float = 0.0) -> None:
        if self._parting.wait(grace):
            return
        sentence = f"process {link.index} ({link.host}) is lost: {why}; start all {self._count} processes again"
        if self._id == 0:
            self._send(f"lost {sentence}")
        self._end(sentence)

    def _end(self, sentence: str) -> None:
        if self._parting.is_set():
            return
        os.write(2, f"error: process {self._id}: {sentence}\n".encode())
        if self._id == 0:
            time.sleep(0.5)  # the others read the sentence before JAX's service ends with this process
        os._exit(LOST)

    def _send(self, line: str) -> None:
        with self._lock:
            for connection in list(self._links):
                with contextlib.suppress(OSError):  # the end of a connection is seen where it is read
                    connection.sendall(f"{line}\n".encode())


def hear_before_abort(seconds: float = 5.0) -> None:
    """An abort of C++ waits so long for the watch, which ends this process by `LOST` where another one is gone.

    When process 0 is killed, JAX's client and the watch see their connections close at the same moment, and the client
    calls abort(). Once in some hundred kills it was the first: status -6 and no sentence. Python's own handlers of
    signals come too late for an abort, so this one is the C library's.
    """

    handler = _HANDLER(lambda _: time.sleep(seconds))  # the watch runs meanwhile; when it returns, abort() goes on
    _kept.append(handler)  # as long as the process lives: the C library holds its address alone
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list = []


class _Link:
    """What is known of the process at the other end."""

    def __init__(self, index: int, host: str):
        self.index, self.host = index, host
        self.last_heard = time.monotonic()
        self.rest = b""
        self.has_parted = False
