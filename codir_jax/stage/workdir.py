"""What lies in a workdir besides checkpoints: the lock and the claim on it, results, folders replaced whole."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.processes import distributed, shared_folder
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes `workdir` and holds it for this run, all its processes together.

    The lock is the system's and goes with the process, however that ends: a dead run blocks nobody.

    Raises:
      UserError: a live run is in it, it cannot be written, or the processes do not see the same folder.
    """
    path, file = workdir / "lock", None

    def lock() -> str:
        nonlocal file
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write to the workdir {workdir}: {error}") from error
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
        file.truncate(0)
        file.write(holder + "\n")
        file.flush()
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
      UserError: of `refuse_other`, or it cannot be written.
    """
    refuse_other(config, workdir)
    results = workdir / "results.json"
    finished = json.loads(results.read_text(encoding="utf-8")) if results.exists() else None
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
      UserError: it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(workdir / "config.json", config_lib.to_json(config))
    except OSError as error:
        raise UserError(f"cannot write to the workdir {workdir}: {error}") from error


def has_progress(workdir: Path) -> bool:
    """Whether anything was trained there: a run that was refused for its data or teacher binds nobody to its config."""
    checkpoints = (workdir / "checkpoints").glob("[0-9]*")
    return (workdir / "results.json").exists() or (workdir / "metrics.jsonl").exists() or any(checkpoints)


def replace_folder(new: Path, folder: Path) -> None:
    """Puts `new` in the place of `folder`; a reader never meets half of one (for an instant there is none)."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


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


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes `values` in one rename."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file in one rename: killed at any moment, it is the old one or the new one."""
    aside = path.with_suffix(".part")
    aside.write_text(text, encoding="utf-8")
    aside.rename(path)
