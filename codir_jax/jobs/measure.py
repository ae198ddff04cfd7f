"""What the models of a job cost, side by side, and their scores on the splits that no stage was judged by."""

from typing import Any

from ml_collections import ConfigDict

from codir_jax.data import length_buckets
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.evaluation import cost
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import models as models_lib
from codir_jax.stage.models import Model
from codir_jax.tasks.contract import task_module


def measure(
    folders: dict[str, str], config: ConfigDict, scores: dict[str, dict[str, float]]
) -> dict[str, dict[str, Any]]:
    """Scores and costs of each model: "dev" (and "test" where it has labels), parameters, bytes, latency in ms.

    Args:
      folders: name -> Hugging Face folder; speed-ups are told to the first.
      config: of a stage on the data.
      scores: name -> metrics on dev, as the stages found them; a model without them is judged here.
    """
    task = task_module(config.task.name).make(config, tokenizer_lib.load_tokenizer(next(iter(folders.values()))))
    models = {}
    for name, folder in folders.items():
        source = models_lib.load_checkpoint(task.head, folder, name)
        module = models_lib.build(task.head, source.config, "float32")
        models[name] = Model(module, source.params, source.config, source)
    has_labels = task.head.num_labels > 0
    served = {name: (cost.answer(model.module, has_labels), model.params) for name, model in models.items()}
    length = task.typical_length
    if task.served_length:  # what one gets: `codir_jax.load` pads so, and runs one text as a batch of one
        length = length_buckets.bucket_length(length, length_buckets.ladder(task.served_length))
    latency = cost.latency(served, seq_len=length)
    first = next(iter(folders))
    rows: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        rows[name] = {
            "dev": scores[name] if name in scores else _dev_scores(task, model, config),
            **{split: _scores(task, model, config, split) for split in task.splits if task.is_judged_once(split)},
            "parameters": cost.count_parameters(model.params),
            "bytes": cost.size_bytes(model.params),
            "num_layers": model.config.num_layers,
            "latency": latency[name],
            "speed_up": latency[first]["batch_32_p50_ms"] / latency[name]["batch_32_p50_ms"],
        }
        if has_labels:
            outputs = cost.Outputs(num_labels=task.head.num_labels, head=task.head.name)
            rows[name]["flops"] = cost.model_flops(model.config, length, outputs)
    return rows


def _dev_scores(task, model: Model, config: ConfigDict) -> dict[str, float]:
    return _scores(task, model, config, "dev") if "dev" in task.splits else {}


def _scores(task, model: Model, config: ConfigDict, split: str) -> dict[str, float]:
    layout = mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
    feed = task.feed(rules.batch_sharding(mesh, table))
    return task.examine(feed, model.module, model.placed(*layout), layout, split).scores
