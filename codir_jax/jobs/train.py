"""One stage as `codir train` runs it: its teacher first where the config names one to be made, then the stage."""

import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.jobs import refusals
from codir_jax.plan import report
from codir_jax.processes import claims, console, distributed
from codir_jax.stage import config as stage_config
from codir_jax.stage import run as run_lib
from codir_jax.stage import workdir as workdir_lib


def train(
    config: str | ConfigDict,
    workdir: str | os.PathLike,
    overrides: config_lib.Overrides = (),
    *,
    on_step: run_lib.Watcher | None = None,
    on_evaluation: run_lib.Watcher | None = None,
) -> dict[str, Any]:
    """Trains the stage of a config in `workdir` and returns what `results.json` holds; stopped, the same call goes on.

    Where a teacher is needed, `teacher.path` is empty and `teacher.config` names a config, that stage is trained first,
    in WORKDIR/teacher, on the same data.

    Args:
      config: `PATH.py[:ARG,ARG]`, a saved `config.json`, or a whole config.
      workdir: folder of the run.
      overrides: dotted key -> value, or pairs of them: what `--config.KEY=VALUE` sets.

      on_step, on_evaluation: functions of (workdir, step, values): every `train.log_every_steps` the means since the
        last call, and after each evaluation the scores on dev.

    Raises:
      UserError: bad config or data, or a workdir of another run, before anything is computed.

    Example:
      >>> codir_jax.train("configs/codir/finetune_teacher.py:tiny", "runs/tiny")["dev"]
      {'matthews_correlation': ..., 'accuracy': ...}
    """
    overrides = config_lib.as_texts(overrides)
    if isinstance(config, str):
        config = stage_config.load(config, overrides)
    else:
        config = config.copy_and_resolve_references()
        for key, text in overrides:
            config_lib.set_from_text(config, key, text)
    workdir = Path(workdir).expanduser()
    claims.check(workdir, claims.RUN, "--workdir")
    if stage_config.needs_teacher(config) and not config.teacher.path and config.teacher.config:
        made_by = teacher_of(config)
        config.teacher.path = str(workdir / "teacher")
        stage_config.check(made_by)
        stage_config.check(config)
        if not distributed.first_decides((Path(config.teacher.path) / "results.json").exists):
            # What does not fit the teacher is told before it is trained.
            refusals.check({"teacher": made_by, "student": config}, workdir, {})
        distributed.first_decides(lambda: workdir_lib.refuse_other(config, workdir))
        distributed.first_decides(lambda: claims.claim(workdir, claims.RUN, "--workdir"))
        console.say(f"== teacher.config={config.teacher.config} -> {config.teacher.path}")
        train(made_by, config.teacher.path, on_step=on_step, on_evaluation=on_evaluation)
    return run_lib.run(config, workdir, on_start=report.at_start, on_step=on_step, on_evaluation=on_evaluation)


def teacher_of(config: ConfigDict) -> ConfigDict:
    """The config of the stage that makes the teacher of `config`.

    Seed, mesh, tokenizer and arithmetic are those of `config` and, of the same task, the data: a teacher of other
    classes or of other texts would be refused once it is trained.
    """
    made_by = stage_config.load(config.teacher.config)
    made_by.seed = config.seed
    made_by.mesh.update(config.mesh)
    made_by.tokenizer_path = config.tokenizer_path or made_by.tokenizer_path
    made_by.train.deterministic = config.train.deterministic
    if made_by.task.name == config.task.name:
        # Which rows are made of the texts is of the method, not of the data.
        own = {name: made_by.data[name] for name in ("layout",) if name in made_by.data}
        made_by.data.update(config.data)
        made_by.data.update(own)
    return made_by
