"""`codir` commands of several processes on this machine, as a launcher starts them; none outlives its test."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.processes import distributed
from codir_jax.stage import run as stage_run
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


def assert_two_go_on_like_one(config: str, overrides: Mapping[str, str], folder: Path) -> None:
    """A run of two processes of four devices, stopped in an epoch and ended by one of eight, is like that of this one.

    Each has caches of its own. The workdirs are `folder`/runs/one and two.
    """

    def changes(name):
        own = {"data.cache_dir": str(folder / name), "train.total_steps": "40"}
        return {**overrides, **own}

    arguments = [f"--config.{key}={value}" for key, value in changes("two").items()]
    command = ["train", f"--config={config}", f"--workdir={folder / 'runs' / 'two'}", *arguments]
    stage_run.run(config_lib.load(config, list(changes("one").items())), folder / "runs" / "one")
    with started(command, folder, num_processes=2) as pair:
        pair[0].wait_for("step 4/")
        pair[0].popen.send_signal(signal.SIGTERM)
        assert [p.wait() for p in pair] == [distributed.PREEMPTED] * 2, pair[0].text() + pair[1].text()
    ((status, told),) = run(command, folder, num_devices=8)
    assert status == 0 and "resumed from" in told, told
    one, two = (
        [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
