"""Processes on this machine: two really start, both start again on 75, one that dies stops the other."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
# A stand-in for `codir train`: notes each of its starts with its environment, then does what BEHAVIOUR says.
STUB = """
import json, os, signal, sys, time
me = os.environ["CODIR_PROCESS_ID"]
names = [n for n in os.environ if n.startswith(("CODIR", "XLA_FLAGS", "JAX_PLATFORMS"))]
path = f"starts_{me}"
start = len(open(path).readlines()) if os.path.exists(path) else 0
def saved(*_):
    open(f"saved_{me}", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, saved)
with open(path, "a") as file:
    file.write(json.dumps([sys.argv[1:], {n: os.environ[n] for n in names}]) + "\\n")
exec(os.environ["BEHAVIOUR"])
"""
WAIT = "time.sleep(60)"


@pytest.fixture
def launch(tmp_path):
    """Runs launch/local.py with the stub in a folder of its own."""
    (tmp_path / "stub.py").write_text(STUB)

    def start(behaviour, *flags, words=("a b", "$HOME")):
        command = [sys.executable, str(LAUNCH / "local.py"), *flags, "--", sys.executable, "stub.py", *words]
        return subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "BEHAVIOUR": behaviour}, text=True, stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    return start


def _starts(folder, process_id):
    path = folder / f"starts_{process_id}"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_start_with_an_address_and_devices_of_their_own(tmp_path, launch):
    port = _port()
    run = launch("pass", "--num_processes=2", "--devices_per_process=4", f"--port={port}")
    assert run.wait(30) == 0
    for process_id in range(2):
        ((words, environment),) = _starts(tmp_path, process_id)
        assert words == ["a b", "$HOME"]
        assert environment == {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "CODIR_COORDINATOR": f"127.0.0.1:{port}",
            "CODIR_NUM_PROCESSES": "2",
            "CODIR_PROCESS_ID": str(process_id),
        }


def test_what_is_printed_starts_the_same_processes(tmp_path, launch):
    port = f"--port={_port()}"
    assert launch("pass", port).wait(30) == 0
    real = [_starts(tmp_path, process_id) for process_id in range(2)]
    for process_id in range(2):
        (tmp_path / f"starts_{process_id}").unlink()
    text, _ = launch("pass", port, "--dry-run").communicate(timeout=30)
    assert not _starts(tmp_path, 0)
    subprocess.run(["bash", "-c", text], cwd=tmp_path, env={**os.environ, "BEHAVIOUR": "pass"}, check=True, timeout=30)
    assert [_starts(tmp_path, process_id) for process_id in range(2)] == real


def test_75_starts_both_again(tmp_path, launch):
    run = launch("sys.exit(75 if start < 2 else 0)", f"--port={_port()}")
    _, told = run.communicate(timeout=60)
    assert run.returncode == 0
    assert [len(_starts(tmp_path, process_id)) for process_id in range(2)] == [3, 3]
    assert "started again, 2 of at most 10 times" in told


def test_75_for_ever_is_given_up_after_the_bound(tmp_path, launch):
    run = launch("sys.exit(75)", "--max_restarts=2", f"--port={_port()}")
    _, told = run.communicate(timeout=60)
    assert run.returncode == 75
    assert len(_starts(tmp_path, 1)) == 3
    assert "given up after 2 restarts" in told


def test_another_status_is_not_started_again_unless_asked_for(tmp_path, launch):
    assert launch("sys.exit(3)", f"--port={_port()}").wait(30) == 3
    assert len(_starts(tmp_path, 0)) <= 1
    assert launch("sys.exit(3 if start < 2 else 0)", "--restart_on=3,75", f"--port={_port()}").wait(60) == 0


@pytest.mark.parametrize(
    ("death", "status"), [("sys.exit(9)", 9), ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL)]
)
def test_one_that_dies_stops_the_other(tmp_path, launch, death, status):
    ready = "while not os.path.exists('starts_1'): time.sleep(0.01)"
    behaviour = f"if me == '0':\n    {ready}\n    {death}\n{WAIT}"
    run = launch(behaviour, f"--port={_port()}")
    _, told = run.communicate(timeout=30)
    assert run.returncode == status
    assert (tmp_path / "saved_1").exists()
    assert f"process 0 of 2 ended with exit status {status}" in told
    assert len(_starts(tmp_path, 1)) == 1


def test_one_that_will_not_stop_is_killed_after_the_grace(tmp_path, launch):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w').close()"
    ready = "while not os.path.exists('deaf'): time.sleep(0.01)"
    behaviour = f"if me == '1':\n    {deaf}\n    {WAIT}\n{ready}\nsys.exit(5)"
    run = launch(behaviour, "--grace_seconds=0.3", f"--port={_port()}")
    _, told = run.communicate(timeout=30)
    assert run.returncode == 5
    assert "killed" in told


def test_after_a_preemption_the_others_may_save_undisturbed(tmp_path, launch):
    behaviour = (
        "if me == '0': sys.exit(75)\nopen('slow', 'w').close(); time.sleep(0.5); open('undisturbed', 'w').close(); "
        "sys.exit(75)"
    )
    run = launch(behaviour, "--max_restarts=0", f"--port={_port()}")
    assert run.wait(30) == 75
    assert (tmp_path / "undisturbed").exists()
    assert not (tmp_path / "saved_1").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_of_them_and_nothing_is_started_again(tmp_path, launch, number):
    run = launch(WAIT, f"--port={_port()}")
    _wait_for(lambda: _starts(tmp_path, 0) and _starts(tmp_path, 1))
    run.send_signal(number)
    assert run.wait(30) == 75
    assert [(tmp_path / f"saved_{i}").exists() for i in range(2)] == [True, True]
    assert [len(_starts(tmp_path, i)) for i in range(2)] == [1, 1]


def test_a_port_in_use_is_refused(launch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = launch("pass", f"--port={taken.getsockname()[1]}")
        _, told = run.communicate(timeout=30)
    assert run.returncode == 2
    assert "is in use" in told
