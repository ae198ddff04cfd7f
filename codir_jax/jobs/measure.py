"""What the models of a job cost, side by side, their scores on the splits that no stage was judged by, and their
answers on dev."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert.folder import find_folder, weight_bytes
from codir_jax.data import length_buckets
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.evaluation import cost
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import models as models_lib
from codir_jax.stage.models import Model
from codir_jax.tasks.contract import Examined, Task, task_module


class Measured(NamedTuple):
    """Attributes:
    rows: name -> scores and costs of a model.
    task: of the data that most of them are judged on.
    tasks: name -> of the data that a model is judged on.
    answers: name -> what the model answers on dev of its task; not where its rows are not for a person to read
      (`Task.read_rows`).
    """

    rows: dict[str, dict[str, Any]]
    task: Task
    tasks: dict[str, Task]
    answers: dict[str, np.ndarray]


def measure(
    folders: dict[str, str],
    config: ConfigDict,
    scores: dict[str, dict[str, float]],
    batch_size: int,
    configs: Mapping[str, ConfigDict] = MappingProxyType({}),
    with_own_words: Collection[str] = (),
) -> Measured:
    """Scores and costs of each model: "dev" (and "test" where it has labels), parameters, bytes, latency in ms.

    Args:
      folders: name -> Hugging Face folder; speed-ups are told to the first.
      config: of a stage on the data.
      batch_size: of the second latency; the first is of one text.
      scores: name -> metrics on dev, as the stages found them; a model without them is judged here.
      configs: name -> config of a model's own stage, where its data may be others than those of `config`.
      with_own_words: models with another tokenizer than the first one.
    """
    tokenizer = tokenizer_lib.load_tokenizer(next(iter(folders.values())))
    tasks: dict[str, Task] = {}  # by data

    def task_of(config: ConfigDict, own_words: str = "") -> Task:
        data = config.task.name + config.data.to_json() + own_words
        if data not in tasks:
            words = tokenizer_lib.load_tokenizer(own_words) if own_words else tokenizer
            tasks[data] = task_module(config.task.name).make(config, words)
            tasks[data].open()
        return tasks[data]

    task = task_of(config)
    models = {}
    for name, folder in folders.items():
        source = models_lib.load_checkpoint(task.head, folder, name)
        module = models_lib.build(task.head, source.config, "float32")
        models[name] = Model(module, source.params, source.config, source)
    served = {name: (cost.answer(model.module, task.head.name), model.params) for name, model in models.items()}
    length = task.typical_length
    if task.served_length:  # what one gets: `codir_jax.load` pads so, and runs one text as a batch of one
        length = length_buckets.bucket_length(length, length_buckets.ladder(task.served_length))
    latency = cost.latency(served, seq_len=length, batch_sizes=(1, batch_size))
    first, largest = next(iter(folders)), f"batch_{batch_size}_p50_ms"
    rows: dict[str, dict[str, Any]] = {}
    answers: dict[str, np.ndarray] = {}
    of_models: dict[str, Task] = {}
    for name, model in models.items():
        own_config = configs.get(name, config)
        own = of_models[name] = task_of(own_config, folders[name] if name in with_own_words else "")
        dev = scores.get(name)
        if "dev" in own.splits and (dev is None or _is_read(own)):
            examined = _examined(own, model, own_config, "dev")
            dev = examined.scores if dev is None else dev
            if _is_read(own):
                answers[name] = examined.reference
        num_bytes = weight_bytes(find_folder(folders[name]))
        rows[name] = {
            "dev": dev or {},
            **{
                split: _examined(own, model, own_config, split).scores
                for split in own.splits
                if own.is_judged_once(split)
            },
            "parameters": cost.count_parameters(model.params),
            "bytes": num_bytes,
            "bits_per_weight": 8 * num_bytes / cost.count_parameters(model.params),
            "num_layers": model.config.num_layers,
            "latency": latency[name],
            "speed_up": latency[first][largest] / latency[name][largest],
        }
    return Measured(rows, task, of_models, answers)


def _is_read(task: Task) -> bool:
    return hasattr(task, "read_rows")


def _examined(task: Task, model: Model, config: ConfigDict, split: str) -> Examined:
    layout = mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
    feed = task.feed(rules.batch_sharding(mesh, table))
    return task.examine(feed, model.module, model.placed(*layout), layout, split)
