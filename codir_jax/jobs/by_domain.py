"""A classifier's scores by domain, and whether the domain can be read off its vectors: what Meta-KD claims to change.

The probe is a logistic regression from a vector of each text to its domain, judged by cross-validation on the file:

    content     h, the mean over the text's tokens of the last layer
    feature     tanh((E[k] + h) W + b), which the method keeps beside a teacher; it is given the true domain k
    unlabelled  tanh(h W + b), the same without being given it
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert import sides
from codir_jax.convert.folder import model_folder
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.evaluation import metrics, probe, runner
from codir_jax.jobs.weigh import name_of
from codir_jax.losses.domains import content_mean
from codir_jax.models.apply import apply_model
from codir_jax.objectives import domain_feature
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage.evaluate import read_model
from codir_jax.stage.models import Model
from codir_jax.tasks.contract import task_module

FOLDS = 5


def scores(config: ConfigDict, model: str, domain_column: str) -> dict[str, Any]:
    """Metrics of all rows; "domains": name -> "rows" and its metrics; "probe". Accuracy has a "standard_error".

    Args:
      config: of a stage; data.dev_path is the file with labels.
      model: workdir, Hugging Face folder or hub name.
      domain_column: of the file, names.

    Raises:
      UserError: bad data, a file of one domain, or a model without a head for the task.
    """
    config = config.copy_and_resolve_references()
    config.data.columns = f"domain_ids={domain_column}"
    tokenizer = tokenizer_lib.load_tokenizer(model_folder(model, "--model"))
    task = task_module(config.task.name).make(config, tokenizer)
    task.require_split("dev")
    info, rows = task.data.info, task.data.splits["dev"]
    if "domain_ids" not in rows.columns:
        raise UserError(f"{config.data.dev_path} has no column {domain_column!r}")
    names = info.column_names.get("domain_ids")
    of_rows = [name_of(names[number] if names else number) for number in rows.columns["domain_ids"]]
    # In the order of their names, as `codir weigh` numbers them.
    known, domains, counts = np.unique(of_rows, return_inverse=True, return_counts=True)
    known = known.tolist()
    if len(known) < 2:
        raise UserError(f"all rows of {config.data.dev_path} are of domain {known[0]!r}; there is nothing to compare")
    logits, content = _answers(config, task, read_model(config, task, model, "--model"))
    answers = runner.answers_of(logits, info.is_regression, info.is_multi_label)

    def measured(chosen) -> dict[str, float]:
        found = metrics.compute(info.metrics, rows.labels[chosen], answers[chosen])
        if "accuracy" in found:
            found["standard_error"] = float(np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / np.sum(chosen)))
        return found

    by_name = {
        name: {"rows": int(count), **measured(domains == k)}
        for k, (name, count) in enumerate(zip(known, counts, strict=True))
    }
    told = {**measured(np.ones(len(domains), bool)), "domains": by_name}
    if counts.min() < FOLDS:
        few = known[counts.argmin()]
        console.note(f"domain {few!r} has {counts.min()} rows; the probe needs {FOLDS} of each and is left out")
        return told
    vectors = {"content": content, **_features(model, content, domains, len(known))}
    found = {name: probe.cross_validated(x, domains, FOLDS, seed=0) for name, x in vectors.items()}
    return {**told, "probe": {"chance": float(counts.max() / counts.sum()), **found}}


def _answers(config: ConfigDict, task, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """(logits [n, classes], h [n, width]), float32."""
    mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)

    def forward(params, batch):
        output = apply_model(model.module, params, batch)
        return output.logits, content_mean(output.hidden_states[-1], batch["attention_mask"])

    feed = task.feed(rules.batch_sharding(mesh, table))
    return feed.collect(jax.jit(forward), model.placed(mesh, table), "dev")


def _features(model: str, content: np.ndarray, domains: np.ndarray, count: int) -> Mapping[str, np.ndarray]:
    """Of a model that has the method's weights beside it: "feature" and "unlabelled", float32 [n, width]."""
    folder = model_folder(model, "--model")
    if not (Path(folder) / sides.FILE).is_file():
        return {}
    params = sides.load(folder, (domain_feature.NAME,))[domain_feature.NAME]
    told = {"unlabelled": np.tanh(content @ params["kernel"] + params["bias"])}
    if len(params["embedding"]) != count:
        console.note(
            f"the model knows {len(params['embedding'])} domains and the file has {count}: which is which cannot "
            "be told, so the feature that is given the domain is not probed"
        )
        return told
    return {"feature": np.tanh(np.asarray(domain_feature.feature(params, domains, content))), **told}
