"""What lies in a workdir besides checkpoints: the claim on it, results, folders that are replaced whole."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib


def claim(config: ConfigDict, workdir: Path) -> dict[str, Any] | None:
    """Makes `workdir` for this config; returns its results where the run is already finished.

    Raises:
      ValueError: the workdir belongs to a run of another config; the differing keys are listed.
    """
    saved = workdir / "config.json"
    if saved.exists() and has_progress(workdir):
        differing = config_lib.differences(config, ConfigDict(json.loads(saved.read_text(encoding="utf-8"))))
        if differing:
            raise ValueError(
                f"{workdir} holds a run of another config; choose another --workdir. Differing keys:\n  "
                + "\n  ".join(differing)
            )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        config_lib.save(config, saved)
    except OSError as error:
        raise ValueError(f"cannot write to the workdir {workdir}: {error}") from error
    results = workdir / "results.json"
    return json.loads(results.read_text(encoding="utf-8")) if results.exists() else None


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
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    aside.rename(path)
