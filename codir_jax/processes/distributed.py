"""Several processes, one run: how they find each other, what the first decides for all, how they part.

Nothing is asked of JAX before `start`: it must come before any other use of JAX, and a lone process never waits.
"""

import dataclasses
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from codir_jax.processes.peers import LOST, Peers, hear_before_abort
from codir_jax.processes.user_error import CannotWriteError, MissingFileError, UserError

# Exit status of a run that was stopped by SIGTERM after a checkpoint (EX_TEMPFAIL): start it again.
PREEMPTED = 75

VARIABLES = {
    "coordinator": "CODIR_COORDINATOR",
    "num_processes": "CODIR_NUM_PROCESSES",
    "process_id": "CODIR_PROCESS_ID",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of this process among all.

    Attributes:
      coordinator: "HOST:PORT" where process 0 listens.
      num_processes, process_id: how many there are, which one this is.
      local_devices: indices of this host's GPUs that are its own; None: all of them.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_devices: tuple[int, ...] | None = None


# Errors that keep their kind when they are told to other processes, the narrower ones first.
_KINDS = (MissingFileError, CannotWriteError, UserError, OSError)

_place: Place | None = None
_peers: Peers | None = None
_decisions = itertools.count()
_barriers = itertools.count()


def place_of(flags: Mapping[str, Any], env: Mapping[str, str] = os.environ) -> Place | None:
    """The place that the flags give, or the environment variables, or a cluster; None for a lone process.

    Args:
      flags: "coordinator", "num_processes", "process_id"; None where not given.
      env: of the process; `VARIABLES` stand for flags that were not given.

    Raises:
      UserError: some but not all are given, or they contradict each other.
    """
    given = {name: flags.get(name) if flags.get(name) is not None else env.get(VARIABLES[name]) for name in VARIABLES}
    missing = [f"--{name}" for name, value in given.items() if value in (None, "")]
    if len(missing) == len(given):
        return _of_cluster(env)
    if missing:
        raise UserError(
            f"{', '.join(missing)} missing: --coordinator=HOST:PORT, --num_processes=N and --process_id=I (or "
            f"{', '.join(VARIABLES.values())}) are given together, the same HOST:PORT and N on every process"
        )
    numbers = {}
    for name in ("num_processes", "process_id"):
        try:
            numbers[name] = int(given[name])
        except ValueError:
            raise UserError(f"--{name} expects a whole number, got {given[name]!r}") from None
    count, index = numbers["num_processes"], numbers["process_id"]
    if not 0 <= index < count:
        raise UserError(f"--process_id={index} with --num_processes={count}; expected 0 .. {count - 1}")
    host, _, port = str(given["coordinator"]).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator={given['coordinator']} is not HOST:PORT, such as 10.0.0.1:8476")
    return Place(str(given["coordinator"]), count, index) if count > 1 else None


def _of_cluster(env: Mapping[str, str]) -> Place | None:
    """Slurm (srun), Open MPI, Kubernetes and TPU pods, as JAX knows them; None where one process is all there is."""
    slurm = int(env.get("SLURM_STEP_NUM_TASKS", "1"))  # of this step: 1 in an interactive shell of a large job
    mpi = int(env.get("OMPI_COMM_WORLD_SIZE", "1"))
    if slurm > 1:
        tasks = max(int(n) for n in re.findall(r"(?<!x)\b\d+", env.get("SLURM_STEP_TASKS_PER_NODE", "1")))
        return _by_jax("SlurmCluster", share_host=tasks > 1)
    if mpi > 1:
        return _by_jax("OmpiCluster", share_host=int(env.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")) > 1)
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env and "TPU_WORKER_HOSTNAMES" not in env:
        import importlib.util

        if importlib.util.find_spec("kubernetes"):
            return _by_jax("K8sCluster", share_host=False)
        sys.stderr.write(
            f"note: this pod of an indexed Kubernetes job (JOB_COMPLETION_INDEX={env['JOB_COMPLETION_INDEX']}) runs "
            "alone; to join the others it needs jax[k8s], or --coordinator, --num_processes and --process_id\n"
        )
        return None
    if env.get("JAX_PLATFORMS", "tpu") in ("", "tpu", "tpu,cpu"):
        is_gke = "TPU_WORKER_HOSTNAMES" in env or "TPU_PROCESS_ADDRESSES" in env
        return _by_jax("GkeTpuCluster" if is_gke else "GceTpuCluster", share_host=False)
    return None


def _by_jax(name: str, *, share_host: bool) -> Place | None:
    """What JAX's own detection says, None where it is not that cluster or has one process."""
    from jax._src import clusters

    # By class: that of Kubernetes has no `name`.
    (cluster,) = (kind for kind in clusters.ClusterEnv._cluster_types if kind.__name__ == name)
    if not cluster.is_env_present():
        if name in ("SlurmCluster", "OmpiCluster"):
            raise UserError(
                f"this is one of several {cluster.name} processes, but its variables do not say where process 0 is; "
                "give --coordinator=HOST:PORT --num_processes=N --process_id=I"
            )
        return None
    count = cluster.get_process_count()
    if count == 1:
        return None
    port = os.environ.get("JAX_COORDINATOR_PORT")
    address = cluster.get_coordinator_address(timeout_secs=300, override_coordinator_port=port)
    local = (cluster.get_local_process_id(),) if share_host else None
    return Place(address, count, cluster.get_process_id(), local)


def start(place: Place, *, connect_timeout: float, heartbeat_timeout: float) -> None:
    """Joins the other processes. It returns when all are there, or ends the process with a sentence.

    Args:
      place: from `place_of`.
      connect_timeout: seconds to wait for the others.
      heartbeat_timeout: seconds of silence after which another process counts as dead.

    Raises:
      UserError: the port of the coordinator cannot be listened at.
    """
    global _place, _peers
    host, port = place.coordinator.rsplit(":", 1)
    if place.process_id == 0:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise UserError(f"process 0 cannot listen at port {port} ({error}); give another --coordinator") from None
    import jax

    # JAX would end with a C++ stack trace; its own timeouts are there for the case that this thread cannot run.
    deadline = threading.Timer(connect_timeout, _give_up, (place, connect_timeout))
    deadline.daemon = True
    deadline.start()
    jax.distributed.initialize(
        place.coordinator,
        place.num_processes,
        place.process_id,
        local_device_ids=place.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(connect_timeout) + 60,
        heartbeat_timeout_seconds=int(heartbeat_timeout) + 30,
    )
    client = _client()
    listener = None
    if place.process_id == 0:
        listener = socket.create_server(("", 0), backlog=place.num_processes)
        client.key_value_set("codir/peers", str(listener.getsockname()[1]))
    address = (host, int(client.blocking_key_value_get("codir/peers", int(connect_timeout * 1000))))
    _peers = Peers(place.process_id, place.num_processes, heartbeat_timeout, listener=listener, address=address)
    _peers.meet()
    hear_before_abort()
    deadline.cancel()
    _place = place


def _give_up(place: Place, seconds: float) -> None:
    host, port = place.coordinator.rsplit(":", 1)
    others = place.num_processes - 1
    if place.process_id == 0:
        what = f"{others} other process(es) to connect to {place.coordinator}"
        check = (
            f"that all {place.num_processes} were started with this --coordinator and reach port {port} of this host"
        )
    else:
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
            what = f"all {place.num_processes} processes to meet at {place.coordinator}, where something answers"
            check = "that it is process 0 of this run, and that every --process_id was started once"
        except OSError as error:
            what = f"process 0 at {place.coordinator} ({error})"
            check = "--coordinator, that process 0 runs there, and that no firewall closes the port"
    sys.stdout.flush()
    sys.stderr.write(f"error: process {place.process_id} waited {seconds:g} s for {what} and gave up; check {check}\n")
    sys.stderr.flush()
    os._exit(LOST)


def process_id() -> int:
    """Which of the processes this is; 0 for a lone one. It does not start JAX's devices."""
    return _place.process_id if _place else 0


def num_processes() -> int:
    """How many processes share the run."""
    return _place.num_processes if _place else 1


def is_several() -> bool:
    """Whether other processes share the run."""
    return _place is not None


def first_decides(compute: Callable[[], Any]) -> Any:
    """What `compute()` returned on process 0, a JSON value, on every process; what it raised is raised on all.

    Every process calls it at the same place of the program.
    """
    if _place is None:
        return compute()
    key = f"codir/decision/{next(_decisions)}"
    if _place.process_id == 0:
        try:
            value = compute()
        except Exception as error:
            kind = next(k for k in (*_KINDS, Exception) if isinstance(error, k))
            _client().key_value_set(key, json.dumps({"kind": kind.__name__, "error": str(error)}))
            raise
        _client().key_value_set(key, json.dumps({"value": value}))
        return value
    told = json.loads(_told(key))
    if "error" in told:
        kinds = {k.__name__: k for k in _KINDS}
        raise kinds.get(told["kind"], RuntimeError)(told["error"])
    return told["value"]


def barrier() -> None:
    """Returns when every process has come here, however long that takes: a corpus is prepared for hours.

    Every process calls it at the same place of the program; one that dies is noticed by the watch.
    """
    if _place is None:
        return
    place, number = _place, next(_barriers)
    _client().key_value_set(f"codir/barrier/{number}/{place.process_id}", "here")
    first_decides(lambda: [_told(f"codir/barrier/{number}/{i}") for i in range(place.num_processes)] and None)


def _told(key: str) -> str:
    """What another process sets under `key`, waited for."""
    while True:
        try:
            return _client().blocking_key_value_get(key, 10_000)
        except Exception as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def wait_for_verdict(error: BaseException) -> None:
    """After an exchange with the other processes failed: gives the watch time to say which of them is lost.

    A lost peer shows first as an error of the exchange, whose text names no process.
    """
    if _peers is not None and re.search("gloo|nccl|connection|socket|unavailable|aborted", str(error), re.IGNORECASE):
        time.sleep(_peers.timeout + 1)


def leave(status: int, reason: str = "", at_once: bool = False) -> None:
    """Ends this process with `status`, its parting announced; a lone process goes on, if it need not leave at once.

    Args:
      status: exit status.
      reason: why it ends before the run does; empty where all of them end.
    """
    if _peers is None and not at_once:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if _peers is not None:
        _peers.part(reason)
    # Not through the end of the interpreter: JAX's own parting waits for minutes where a process is stuck, and a thread
    # that still compiles would find its client gone, and crash.
    os._exit(status)


def _client():
    from jax._src import distributed

    return distributed.global_state.client
