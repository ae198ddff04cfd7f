"""What lies in a workdir besides checkpoints: the lock and the claim on it, its config, the machine of its results."""

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.processes import claims, distributed, json_text, shared_folder, whole
from codir_jax.processes.user_error import CannotWriteError, UserError
from codir_jax.stage import config as stage_config


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes `workdir` and holds it for this run, all its processes together.

    The lock is the system's and goes with the process, however that ends: a dead run blocks nobody.

    Raises:
      UserError: a folder that is not empty and not of a run, a live run is in it, or the processes do not see the same
        folder.
      CannotWriteError: it cannot be written.
    """
    path, file = workdir / "lock", None

    def lock() -> str:
        nonlocal file
        claims.claim(workdir, claims.RUN, "--workdir")
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+", encoding="utf-8")
        except OSError as error:
            raise CannotWriteError(f"cannot write to the workdir {workdir}: {error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another run"
            raise UserError(
                f"{workdir} is in use by {holder}; wait for it, stop it, or choose another --workdir"
            ) from None
        except OSError:
            pass  # a file system without locks
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        file.seek(0)
        file.truncate()
        file.write(holder + "\n")
        file.flush()
        whole.clean(workdir)
        return holder

    try:
        holder = distributed.first_decides(lock)
        if not shared_folder.reads(path, holder):
            raise shared_folder.not_shared(workdir, "--workdir")
        yield
    finally:
        if file is not None:
            file.close()


def refuse_other(config: ConfigDict, workdir: Path, flag: str = "--workdir") -> None:
    """Refuses a workdir with a run of another config; the differing keys are listed.

    Fields that do not bind a run (`processes.fields.Field.binds`) may differ: the mesh, as a checkpoint is read on any,
    where things are kept, how often they are written.

    Args:
      flag: by which another folder is chosen.
    """
    saved = workdir / "config.json"
    if not (saved.exists() and has_progress(workdir)):
        return
    if differing := stage_config.differing(config, config_lib.read_saved(saved)):
        raise UserError(
            f"{workdir} holds a run of another config; choose another {flag}. Differing keys:\n  "
            + "\n  ".join(differing)
        )


def claim(config: ConfigDict, workdir: Path) -> dict[str, Any] | None:
    """Makes `workdir` the one of this config; returns its results where the run is already finished.

    Raises:
      UserError: of `refuse_other`, a folder that is not of a run, or results that cannot be read.
      CannotWriteError: it cannot be written.
    """
    claims.claim(workdir, claims.RUN, "--workdir")
    refuse_other(config, workdir)
    finished = read_results(workdir)
    if has_progress(workdir) and not (workdir / "config.json").exists():
        if finished and finished.get("config_fingerprint") != stage_config.fingerprint(config):
            raise UserError(
                f"{workdir} holds the results of another config, and its config.json is gone; choose another --workdir"
            )
        return finished  # of a run that goes on, the checkpoint tells whether it is of this config
    write_config(config, workdir)
    return finished


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes config.json.

    Raises:
      CannotWriteError: it cannot be written.
    """
    try:
        whole.write_text(workdir / "config.json", config_lib.to_json(config))
    except OSError as error:
        raise CannotWriteError(f"cannot write to the workdir {workdir}: {error}") from error


def read_results(workdir: Path) -> dict[str, Any] | None:
    """What `results.json` holds; None where the run is not finished.

    Raises:
      UserError: it cannot be read.
    """
    path = workdir / "results.json"
    if not path.exists():
        return None
    try:
        results = json_text.parse(path.read_text(encoding="utf-8"), allow_nan=True)
    except (ValueError, OSError) as error:
        results, told = None, f" ({error})"
    else:
        told = ""
    if not isinstance(results, dict) or not {"dev", "best_step", "metrics"} <= results.keys():
        raise UserError(
            f"{path} does not hold the results of a run{told}; remove it, and the same command writes it anew"
        )
    return results


def has_progress(workdir: Path) -> bool:
    """Whether anything was trained there: a run that was refused for its data or teacher binds nobody to its config."""
    checkpoints = (workdir / "checkpoints").glob("[0-9]*")
    return (workdir / "results.json").exists() or (workdir / "metrics.jsonl").exists() or any(checkpoints)


def environment() -> dict[str, Any]:
    """Versions, devices and git commit that a result came from."""
    packages = ("codir-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "numpy")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    source = Path(__file__).resolve().parent
    git = subprocess.run(["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    import jax

    devices = jax.devices()
    return {
        "versions": versions,
        "git_commit": git.stdout.strip() if git.returncode == 0 else None,
        "devices": f"{len(devices)} x {devices[0].device_kind}",
    }
