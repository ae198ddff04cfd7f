"""Whether a folder holds the job that is asked for: the configs of its stages, compared with those it began with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax.processes import claims, whole
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir
from codir_jax.tasks.contract import Task

MAX_DIFFERENCES_TOLD = 10
_FILE = "job.json"


def claim(folder: Path, given: str, configs: Mapping[str, ConfigDict], before: Mapping[str, Any]) -> None:
    """Makes the folder that of the job, and writes down the job's settings.

    Args:
      given: the model that the job is given. configs: of its stages, as planned. before: `settings` of the folder.

    Raises:
      UserError: the folder holds a job with other settings; the first keys that differ are named.
    """
    now = {"given": given, "stages": {name: config.to_dict() for name, config in configs.items()}}
    now = json.loads(json.dumps(now))
    if differing := _differences(now, before):
        more = len(differing) - MAX_DIFFERENCES_TOLD
        raise UserError(
            f"{folder} holds a job with other settings; choose another --output, or set them as they were:\n  "
            + "\n  ".join(differing[:MAX_DIFFERENCES_TOLD])
            + (f"\n  ... and {more} more" if more > 0 else "")
        )
    claims.claim(folder, claims.JOB, "--output")
    whole.clean(folder)
    whole.write_json(folder / _FILE, now)


def check_data(stage: Path, task: Task) -> None:
    """Refuses a finished stage whose data have changed where they lie.

    Raises:
      UserError: they have.
    """
    finished = workdir.read_results(stage)
    if not finished:
        return
    if not task.fingerprint:
        task.open()
    if finished["data_fingerprint"] != task.fingerprint:
        raise UserError(
            f"the data changed since {stage} was trained; choose another --output, or give the files as they were"
        )


def settings(folder: Path) -> dict[str, Any]:
    """The settings of an earlier call, {"given", "stages": name -> config}, of stages of which something was trained.

    {} where nothing was.
    """
    saved = folder / _FILE
    found = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else {"stages": {}}
    begun = {name: config for name, config in found["stages"].items() if workdir.has_progress(folder / name)}
    return {**found, "stages": begun} if begun else {}


def _differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """A line for each key in which two jobs differ, with the stages that it is of; further stages are no difference."""
    if not before:
        return []
    is_same = stage_config.is_same_place(now["given"], before["given"])
    given = [] if is_same else [f"--teacher: {now['given']!r} here, {before['given']!r} there"]
    stages, begun = now["stages"], before["stages"]
    if missing := [name for name in before["stages"] if name not in now["stages"]]:
        given.append(f"stages: {', '.join(missing)} there, and not here; is it another --recipe?")
    of_stages: dict[str, list[str]] = {}
    for name in before["stages"]:
        if name in now["stages"]:
            for line in stage_config.differing(stages[name], begun[name]):
                of_stages.setdefault(line, []).append(name)
    return given + [f"{line} ({', '.join(names)})" for line, names in of_stages.items()]
