"""What can be refused of a whole job before its first stage is trained: data, sizes, layers, batches, objectives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from codir_jax.compression import methods
from codir_jax.convert import compressed
from codir_jax.models.heads import abstract_params
from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives import transform
from codir_jax.objectives.contract import make_objective, needs_labels
from codir_jax.processes import console, distributed
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import checks, models
from codir_jax.stage.assembled import make_tokenizer, setting_of
from codir_jax.tasks.contract import Task, task_module


def check(configs: Mapping[str, ConfigDict], folder: Path, then: Mapping[str, Sequence[str]]) -> dict[str, Task]:
    """Refuses stages whose data cannot be read, or whose models cannot be made of what earlier stages will make.

    Args:
      configs: name -> config of every stage that is trained, in order; the first names a tokenizer that is there.
      then: name of a stage -> ways in which its model is made smaller afterwards.
      folder: of the job; a stage is trained in `folder / name`.

    Returns:
      name of a stage -> its task; stages of the same data share one.

    Raises:
      UserError: what is wrong with which field, file or line.
    """
    tokenizer = make_tokenizer(next(iter(configs.values())))
    tasks: dict[str, Task] = {}
    read: dict[str, Task] = {}
    sizes: dict[str, TransformerConfig] = {}

    def sizes_of(path: str, purpose: str) -> TransformerConfig | None:
        return sizes.get(path) or (models.read_sizes(path, purpose) if path else None)

    for name, config in configs.items():
        data = f"{config.task.name} {needs_labels(config.objective.name)} {config.data.to_json()}"
        if data not in read:
            read[data] = task_module(config.task.name).make(config, tokenizer)
        task = tasks[name] = read[data]
        mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
        checks.check_batch_sizes(config, rules.num_batch_shards(mesh, table), distributed.num_processes())
        taught, start = sizes_of(config.teacher.path, "--teacher"), None
        if config.student.init == "pretrained":
            start = sizes_of(config.student.path, "student.path")
        student, teacher = models.shapes_only(config, task.head, taught, tokenizer, start)
        checks.check_length(config, student)
        make_objective(config.objective, setting_of(config, task, student, teacher))
        shapes = methods.shapes_of(rules.unbox(abstract_params(student.module)))
        for way in transform.ways_of(config.compression):
            methods.matching(way, shapes)
        for method in then.get(name, ()):
            compressed.check(method, student.config, shapes)
        sizes[str(folder / name)] = student.config
    return tasks


def fits(task: Task, given: str) -> bool:
    """Whether a given model has a trained head for the task's classes: then it is a teacher as it is.

    Raises:
      UserError: there is no such model.
    """
    source = models.load_checkpoint(task.head, given, "--teacher")
    if not source.has_head:
        return False
    try:
        task.check_checkpoint(source, given)
    except UserError as error:
        console.note(f"{error}; the teacher is fine-tuned anew")
        return False
    return True
