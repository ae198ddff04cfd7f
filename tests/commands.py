"""`codir` commands of several processes on this machine, as a launcher starts them; none outlives its test."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conftest import QUICK_TO_COMPILE

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class Process:
    """A `codir` command that runs; what it prints is in `log`."""

    popen: subprocess.Popen
    log: Path

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Returns when `text` is printed; fails if the process ends before."""
        end = time.monotonic() + seconds
        while text not in self.text():
            assert self.popen.poll() is None, f"ended with {self.popen.returncode} before {text!r}:\n{self.text()}"
            assert time.monotonic() < end, f"{text!r} did not come in {seconds} s:\n{self.text()}"
            time.sleep(0.05)

    def wait(self, seconds: float = 120) -> int:
        """The exit status."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.text()}") from None


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def started(
    arguments: Sequence[str],
    folder: Path,
    *,
    num_processes: int = 1,
    num_devices: int = 4,
    module: str = "codir_jax.main",
    **env: str,
) -> Iterator[list[Process]]:
    """Starts `codir ARGUMENTS` once a process, told their places by the environment; kills what is left at the end.

    Args:
      arguments: of every process; "{process_id}" in them is replaced.
      folder: for the logs.
      num_processes: how many.
      num_devices: fake CPU devices of each.
      module: what is started.
      env: variables on top.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = f"--xla_force_host_platform_device_count={num_devices} {QUICK_TO_COMPILE}"
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
        "GLIBC_TUNABLES": "",  # one start, not two
        "JAX_COMPILATION_CACHE_DIR": str(Path(os.environ["XDG_CACHE_HOME"]) / f"compiled{num_processes}x{num_devices}"),
        "CODIR_COORDINATOR": f"127.0.0.1:{free_port()}",
        "CODIR_NUM_PROCESSES": str(num_processes),
    }
    processes = []
    try:
        for index in range(num_processes):
            command = [sys.executable, "-m", module]
            command += [argument.replace("{process_id}", str(index)) for argument in arguments]
            log = folder / f"{time.monotonic_ns()}-{index}.log"
            with log.open("wb") as file:
                place = {"CODIR_PROCESS_ID": str(index), **env}
                popen = subprocess.Popen(
                    command, cwd=ROOT, env={**shared, **place}, stdout=file, stderr=subprocess.STDOUT
                )
            processes.append(Process(popen, log))
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.popen.kill()
            process.popen.wait()


def run(arguments: Sequence[str], folder: Path, *, seconds: float = 180, **options) -> list[tuple[int, str]]:
    """(exit status, output) of each process after all have ended; options as of `started`."""
    with started(arguments, folder, **options) as processes:
        end = time.monotonic() + seconds
        return [(p.wait(max(end - time.monotonic(), 0.1)), p.text()) for p in processes]
