"""Several processes share a run: found by flags or environment, refused with a sentence, ended alike."""

import http.server
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.processes import distributed
from codir_jax.processes.peers import LOST
from codir_jax.stage import run
from tests import commands

SMALL = {
    "data.demo_num_train": "192",
    "data.demo_num_dev": "64",
    "data.batch_size": "32",
    "data.eval_batch_size": "32",
    "train.log_every_steps": "4",
}
TINY = "configs/codir/finetune_teacher.py:tiny"


def _train(workdir: Path, *flags: str, **changes: str) -> list[str]:
    values = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [
        "train",
        f"--config={TINY}",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in values.items()),
        *flags,
    ]


def test_a_lone_process_waits_for_nobody():
    assert distributed.place_of({}, {"JAX_PLATFORMS": "cpu"}) is None
    assert distributed.place_of({}, {}) is None
    shell_of_a_large_job = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "8",
        "SLURM_STEP_NUM_TASKS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    assert distributed.place_of({}, shell_of_a_large_job) is None
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JAX_PLATFORMS": "cpu"}
    assert distributed.place_of({}, pod) is None
    one = {"coordinator": "localhost:1234", "num_processes": 1, "process_id": 0}
    assert distributed.place_of(one, {}) is None


def test_flags_come_before_the_environment():
    env = dict(zip(distributed.VARIABLES.values(), ("host:1234", "4", "3"), strict=True))
    assert distributed.place_of({}, env) == distributed.Place("host:1234", 4, 3)
    flags = {"coordinator": "other:80", "process_id": 0}
    assert distributed.place_of(flags, env) == distributed.Place("other:80", 4, 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"coordinator": "host:1234"}, "--num_processes, --process_id missing"),
        ({"num_processes": 2, "process_id": 0}, "--coordinator missing"),
        ({"coordinator": "host:1234", "num_processes": 2, "process_id": 2}, r"expected 0 \.\. 1"),
        ({"coordinator": "host", "num_processes": 2, "process_id": 0}, "not HOST:PORT"),
        ({"coordinator": "host:99999", "num_processes": 2, "process_id": 0}, "not HOST:PORT"),
        ({"coordinator": "host:80", "num_processes": "two", "process_id": 0}, "whole number"),
    ],
)
def test_places_that_make_no_sense_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        distributed.place_of(flags, {})


@pytest.mark.parametrize(("tasks", "devices"), [("1(x4)", None), ("4(x2),1", (2,))])
def test_slurm_is_recognised(monkeypatch, tasks, devices):
    """One process a host has all its GPUs; several share them, one each."""
    env = {
        "SLURM_JOB_ID": "65536",
        "SLURM_STEP_NODELIST": "node[007-010]",
        "SLURM_NTASKS": "4",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "2",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert distributed.place_of({}) == distributed.Place("node007:61440", 4, 3, devices)


@pytest.mark.parametrize("hosts", ["a", "a,b"])
def test_a_tpu_pod_is_recognised_and_a_single_tpu_host_is_alone(monkeypatch, hosts):
    from jax._src.clusters import cloud_tpu_cluster

    env = {"TPU_WORKER_HOSTNAMES": hosts, "TPU_WORKER_ID": "0", "JAX_PLATFORMS": "tpu"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster.BaseTpuCluster, "wait_for_coordinator", lambda *_: None)
    monkeypatch.setattr(cloud_tpu_cluster, "get_tpu_env_value", lambda key: None)
    expected = distributed.Place("a:8482", 2, 0) if hosts == "a,b" else None
    assert distributed.place_of({}, env) == expected


@pytest.fixture
def metadata_server(monkeypatch):
    """What a Compute Engine machine is told about itself, served at a real port; set `.attributes`."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = self.server.attributes.get(self.path.removeprefix("/computeMetadata/v1/instance/attributes/"))
            known = text is not None and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(text.encode() if known else b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


@pytest.mark.parametrize("endpoints", ["unknown:unknown:10.0.0.5,unknown:unknown:10.0.0.6", "10.0.0.5,10.0.0.6"])
def test_a_worker_of_a_compute_engine_slice_is_recognised_by_its_metadata(monkeypatch, metadata_server, endpoints):
    """`gcloud compute tpus` sets no variables; in both formats that the service has used."""
    from jax._src.clusters import cloud_tpu_cluster

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    for name in ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES", "JAX_COORDINATOR_PORT"):
        monkeypatch.delenv(name, raising=False)
    tpu_env = "ACCELERATOR_TYPE: 'v5litepod-16'\nWORKER_ID: '1'\n"
    metadata_server.attributes = {
        "agent-worker-number": "1",
        "worker-network-endpoints": endpoints,
        "tpu-env": tpu_env,
    }
    assert distributed.place_of({}, {}) == distributed.Place("10.0.0.5:8482", 2, 1)
    metadata_server.attributes["worker-network-endpoints"] = "10.0.0.5"
    assert distributed.place_of({}, {}) is None  # a slice of one host


@pytest.fixture
def indexed_job(monkeypatch):
    """A pod of an indexed Kubernetes job of three, with the package's client answering for the API server."""
    from jax._src.clusters import k8s_cluster

    named = types.SimpleNamespace
    metadata = named(
        name="distil-2",
        labels={"job-name": "distil"},
        owner_references=[named(controller=True, kind="Job")],
    )
    pod = named(metadata=metadata, spec=named(subdomain="distil"))
    job = named(metadata=named(name="distil", labels={}), spec=named(parallelism=3, completion_mode="Indexed"))
    client = types.ModuleType("kubernetes")
    client.__spec__ = importlib.machinery.ModuleSpec("kubernetes", None)
    client.config = named(load_incluster_config=lambda: None)
    client.client = named(
        CoreV1Api=lambda: named(list_namespaced_pod=lambda **_: named(items=[pod])),
        BatchV1Api=lambda: named(read_namespaced_job=lambda **_: job),
        exceptions=named(ApiException=KeyError),
    )
    monkeypatch.setitem(sys.modules, "kubernetes", client)
    monkeypatch.setattr(k8s_cluster.K8sCluster, "_namespace", classmethod(lambda cls: "default"))
    monkeypatch.setattr(k8s_cluster.socket, "gethostbyname", lambda name: "10.8.0.4")
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "2", "HOSTNAME": "distil-2"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    yield env
    for name in ("_pod", "_job", "_controller"):
        getattr(k8s_cluster.K8sCluster, name).cache_clear()


def test_a_pod_of_an_indexed_kubernetes_job_is_recognised(indexed_job):
    assert distributed.place_of({}, indexed_job) == distributed.Place("distil-0.distil:55527", 3, 2)


def test_an_indexed_pod_that_cannot_ask_who_the_others_are_says_so(indexed_job, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert distributed.place_of({}, indexed_job) is None
    assert "JOB_COMPLETION_INDEX=2" in (told := capsys.readouterr().err) and "jax[k8s]" in told


def test_an_mpi_without_an_address_is_refused():
    with pytest.raises(ValueError, match="give --coordinator"):
        distributed.place_of({}, {"OMPI_COMM_WORLD_SIZE": "2"})


def test_a_wrong_coordinator_fails_in_time_with_one_sentence(tmp_path):
    started = time.monotonic()
    flags = [f"--coordinator=127.0.0.1:{commands.free_port()}", "--num_processes=2", "--connect_timeout=2"]
    for index, sentence in ((1, "waited 2 s for process 0 at 127.0.0.1"), (0, "for 1 other process(es)")):
        ((status, text),) = commands.run(_train(tmp_path / "run", *flags, f"--process_id={index}"), tmp_path)
        assert status == LOST
        assert sentence in text and "check" in text
        assert "***" not in text and "@" not in text  # no C++ stack
    assert time.monotonic() - started < 60
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_end_like_one(tmp_path):
    """Two processes of four devices against this one of eight."""
    results = run.run(config_lib.load(TINY, list(SMALL.items())), tmp_path / "one")
    outcomes = commands.run(_train(tmp_path / "two"), tmp_path, num_processes=2, num_devices=4)
    assert [status for status, _ in outcomes] == [0, 0], outcomes
    assert "best dev" in outcomes[0][1] and "step 4/6" in outcomes[0][1]
    assert "step" not in outcomes[1][1] and "best dev" not in outcomes[1][1]  # only the first process tells
    ours = json.loads((tmp_path / "two" / "results.json").read_text())
    assert ours["num_processes"] == 2 and ours["devices"] == results["devices"] == "8 x cpu"
    for key in ("dev", "dev_last", "best_step", "num_steps", "data_fingerprint"):
        assert ours[key] == pytest.approx(results[key]) if key.startswith("dev") else ours[key] == results[key]
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [set(line) for line in one] == [set(line) for line in two]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    again = commands.run(_train(tmp_path / "two", seed="1"), tmp_path, num_processes=2)
    for status, text in again:
        assert status == 2
        assert "seed: 1 here, 0 there" in text  # both say it, none hangs


def _lose(pair, victim: int, number: int = signal.SIGKILL) -> None:
    """One of two goes; the other names it and ends."""
    os.kill(pair[victim].popen.pid, number)
    lost = time.monotonic()
    survivor = pair[1 - victim]
    assert survivor.wait() == LOST, survivor.text()
    assert time.monotonic() - lost < 20
    assert f"process {victim} (" in survivor.text() and "start all 2 processes again" in survivor.text()


def _long_run(folder: Path, *flags: str) -> list[str]:
    return _train(folder / "run", *flags, train__total_steps="2000", train__checkpoint_every_steps="10")


PAIR = {"num_processes": 2, "num_devices": 1}


def test_a_killed_process_is_named_and_both_resume_and_stop_at_one_step(tmp_path):
    """The second is killed; both are started again; SIGTERM to the second stops both at one step."""
    with commands.started(_long_run(tmp_path), tmp_path, **PAIR) as pair:
        pair[0].wait_for("step 20/")
        _lose(pair, 1)
    with commands.started(_long_run(tmp_path), tmp_path, **PAIR) as pair:
        pair[0].wait_for("resumed from")  # before the first step: the signal must not be lost
        pair[1].popen.send_signal(signal.SIGTERM)
        assert [p.wait() for p in pair] == [distributed.PREEMPTED] * 2, pair[0].text() + pair[1].text()
        (stopped,) = {p.text().split("stopped by SIGTERM after step ")[1].split(";")[0] for p in pair}
    steps = [int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*") if path.name.isdigit()]
    assert max(steps) == int(stopped)


@pytest.mark.slow
def test_the_first_of_two_killed_or_either_silent_ends_the_other(tmp_path):
    for victim, number in ((0, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGSTOP)):
        with commands.started(_long_run(tmp_path, "--heartbeat_timeout=3"), tmp_path, **PAIR) as pair:
            pair[0].wait_for("step ")
            _lose(pair, victim, number)


@pytest.mark.slow
def test_ctrl_c_in_one_of_two_stops_both(tmp_path):
    with commands.started(_long_run(tmp_path), tmp_path, **PAIR) as pair:
        pair[0].wait_for("step 20/")
        pair[0].popen.send_signal(signal.SIGINT)
        assert [p.wait() for p in pair] == [130, distributed.PREEMPTED], pair[0].text() + pair[1].text()


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one_and_ends_like_one(tmp_path):
    def command(name):
        return _train(tmp_path / name, train__total_steps="60", train__checkpoint_every_steps="10")

    with commands.started(command("run"), tmp_path, **PAIR) as pair:
        pair[0].wait_for("step 20/")
        pair[0].popen.send_signal(signal.SIGTERM)
        assert [p.wait() for p in pair] == [distributed.PREEMPTED] * 2, pair[0].text() + pair[1].text()
    ((status, told),) = commands.run(command("run"), tmp_path, num_devices=2)
    assert status == 0 and "resumed from" in told, told
    ((status, told),) = commands.run(command("straight"), tmp_path, num_devices=2)
    assert status == 0, told
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "straight")
    )
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
