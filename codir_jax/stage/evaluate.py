"""A finished model, judged as a run judges its student."""

from pathlib import Path

from ml_collections import ConfigDict

from codir_jax.convert.folder import model_folder
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.objectives.contract import objective_module
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError
from codir_jax.stage import models
from codir_jax.stage.assembled import Stage
from codir_jax.stage.config import check_fields
from codir_jax.stage.models import Model
from codir_jax.tasks.contract import task_module


def evaluate(config: ConfigDict, model: str, split: str = "dev") -> dict[str, float]:
    """The scores of a model on a split of the data that the config names; on dev also its distance to the teacher.

    Args:
      config: of a stage; its task, data, mesh and teacher.path are read. A teacher that is not here is left out.
      model: workdir, Hugging Face folder or hub name.

    Raises:
      UserError: the split does not exist or has no labels, or the model has no head for the task.
    """
    check_fields(config)
    module = task_module(config.task.name)
    tokenizer = tokenizer_lib.load_tokenizer(model_folder(model, "--model"))
    task = module.make(config, tokenizer)
    task.require_split(split)
    student = read_model(config, task, model, "--model")
    teacher = None
    if split == "dev" and config.teacher.path:
        if Path(config.teacher.path).expanduser().is_dir():
            teacher = models.make_teacher(config, task)
            models.check_vocabulary(tokenizer, config.teacher.path, teacher)
        else:
            console.note(f"the teacher {config.teacher.path} is no folder here; its distance is not told")
    task.open()
    judged = config.copy_and_resolve_references()
    judged.objective = objective_module(module.PLAIN_OBJECTIVE).default_config()
    # Nothing is trained, and there need be nothing to train on: the length of the run is of no use.
    stage = Stage.of(judged, parts=(task, student, teacher), num_steps=1)
    params = student.placed(*stage.layout)
    if teacher is None:
        return task.examine(stage.feed, student.module, params, stage.layout, split).scores
    reference = task.examine(stage.feed, teacher.module, teacher.placed(*stage.layout), stage.layout).reference
    return stage.judge(reference)({"student": params}, {})


def read_model(config: ConfigDict, task, path: str, flag: str) -> Model:
    """A finished model for the task.

    Args:
      config: of a stage; student.dtype is read.
      path: workdir, Hugging Face folder or hub name. flag: what it was given by.

    Raises:
      UserError: it has no head for the task, or other classes.
    """
    source = models.load_checkpoint(task.head, path, flag)
    if not source.has_head:
        raise UserError(f"{path} has no {task.lacks_head()[0]} (missing or of another size: {source.new_weights})")
    task.check_checkpoint(source, path)
    return models.of_checkpoint(task.head, source, config.student.dtype)
