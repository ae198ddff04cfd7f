"""Files of several domains, each train text with the weight that Meta-KD gives it: how typical it is, of its domain and
of the others. One pass of an encoder over the train set, on all devices; then one folder a domain."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.data import dataset
from codir_jax.data.data_error import DataError
from codir_jax.data.delimited import at, read_table
from codir_jax.data.splits import RawSplit
from codir_jax.jobs.own_data import SPLITS, content
from codir_jax.losses.domains import BY, content_mean, prototype_weights
from codir_jax.models.apply import apply_model
from codir_jax.processes import claims, console, whole
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import config as stage_config
from codir_jax.stage import models
from codir_jax.stage.assembled import make_tokenizer
from codir_jax.tasks.contract import task_module

# What the files call their columns; `data.columns` of the stages that read them.
COLUMNS = "domain_ids=domain_number,example_weights=weight"
SUMMARY = "weights.json"
# In a job: what the weighed files were made of.
MADE_OF = "made_of.json"
# Of a domain: it names a folder and a stage.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def weigh(
    config: ConfigDict,
    domain_column: str,
    output: str | Path,
    *,
    by: str = "domain",
    centred: bool = False,
    domains: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes weighted files and returns what `weights.json` holds.

    `output` gets train.jsonl, dev.jsonl, ... of all domains, NAME/train.jsonl, ... of each, and weights.json: the
    spread of the weights by domain. A row has its texts, label, domain, domain_number and weight. Domains of the train
    file are numbered in the order of their names, others after them. A domain without train rows is zero-shot: its
    train file holds the rows of all others.

    Args:
      config: of a stage; its data (own files), student.path (the encoder, not fine-tuned on the task), tokenizer_path
        and mesh are read.
      domain_column: of the files, names.
      by, centred: of `losses.domains.prototype_weights`.
      domains: those that get a folder; empty: all of them.

    Raises:
      UserError: bad data, a domain with fewer than two rows or one class, or one that no file has.
    """
    claims.check(output, claims.WEIGHED, "--output")
    if not domain_column:
        raise UserError("--domain_column is empty; name the column that holds each text's domain")
    if by not in BY:
        raise UserError(f"--by={by!r}; known: {', '.join(BY)}")
    if centred and config.data.unlabelled_path:
        raise UserError(
            "--centred weighs a text by its class, and those of --unlabelled have none; leave one of both out"
        )
    if centred and by == "domain":
        raise UserError("--centred needs --by=class: by domain alone the two parts of a centred weight cancel")
    stage_config.check(config)
    config = config.copy_and_resolve_references()
    config.data.columns = f"domain_ids={domain_column}"
    raw, label_names = _read(config)
    names = _domains(raw, Path(config.data.train_path), domain_column)
    if unknown := [name for name in domains if name not in names]:
        raise UserError(f"--domains has {', '.join(unknown)}, which no file has; it has: {', '.join(names)}")
    if len(set(domains)) < len(domains):
        raise UserError(f"--domains names one twice: {', '.join(domains)}")
    of_dev = {name_of(value) for value in raw["dev"].columns["domain_ids"]} if "dev" in raw else set()
    if unjudged := [name for name in domains or names if name not in of_dev]:
        raise UserError(f"domain {unjudged[0]!r} has no row in the dev file, by which its student is judged")
    weights = _weights(config, raw, names, by, centred)
    output = Path(output)
    rows = {split: _rows(part, label_names, names, config.data, weights.get(split)) for split, part in raw.items()}
    _remove_earlier(output)
    _write(output, rows)
    trained = {row["domain"] for row in rows["train"]}
    for name in domains or names:
        own = {split: [row for row in part if row["domain"] == name] for split, part in rows.items()}
        if name not in trained:
            console.say(
                f"domain {name!r} has no train row: zero-shot, its student learns from the other domains' texts"
            )
            own["train"] = rows["train"]
        _write(output / name, {split: part for split, part in own.items() if part})
    told = {"by": by, "centred": centred, "domains": list(domains or names), "weights": _spread(rows["train"])}
    whole.write_json(output / SUMMARY, told)
    for name, spread in told["weights"].items():
        console.say("weights of " + name + ": " + "  ".join(f"{key} {value:.4g}" for key, value in spread.items()))
    return told


def _read(config: ConfigDict) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
    raw = dataset.read(config.data)
    if raw.is_regression:
        raise UserError("Meta-KD is of classes, and the labels are a regression's")
    if raw.is_multi_label:
        raise UserError("Meta-KD is of one class a text, and these have several (data.is_multi_label)")
    for split, part in raw.splits.items():
        if "domain_ids" not in part.columns:
            raise UserError(f"the {split} file has no column {config.data.columns.partition('=')[2]!r}")
    return dict(raw.splits), raw.label_names


def _domains(raw: dict[str, RawSplit], path: Path, column: str) -> list[str]:
    """The names, those of the train split first.

    Args:
      path, column: of the train file, to tell lines.

    Raises:
      DataError: a domain of the train split that has fewer than two rows, or rows of one class. UserError: there is
        one domain only.
    """
    train = raw["train"]
    of_train = np.asarray([name_of(value) for value in train.columns["domain_ids"]])
    labels = np.asarray(train.labels, object)
    if len(set(of_train)) < 2:
        raise UserError(f"{path}: all rows are of domain {str(of_train[0])!r}; Meta-KD needs two domains")
    wrong = []
    for name in np.unique(of_train).tolist():
        rows = np.flatnonzero(of_train == name)
        if len(rows) < 2:
            wrong.append((rows[0], f"domain {name!r} has this row only; give more, or leave it out"))
        elif len(set(labels[rows])) < 2:
            told = f"all {len(rows)} rows of domain {name!r}, of which this is the first, have one class"
            wrong.append((rows[0], f"{told}; give rows of another, or leave it out"))
    if wrong:
        table = read_table(path, [column], [])
        raise DataError([at(path, table.lines[row], told) for row, told in wrong])
    every = {name_of(value) for part in raw.values() for value in part.columns["domain_ids"]}
    return [*np.unique(of_train).tolist(), *sorted(every - set(of_train.tolist()))]


def name_of(value: Any) -> str:
    """A domain's name: a number that is whole has no point, as in the file."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def _weights(config, raw, names, by: str, centred: bool) -> dict[str, np.ndarray]:
    """Split -> weight of each row, of "train" and "unlabelled"."""
    train_only = config.copy_and_resolve_references()
    train_only.data.update({"dev_path": "", "test_path": ""})
    tokenizer = make_tokenizer(train_only)
    task = task_module(config.task.name).make(train_only, tokenizer)
    source = models.load_checkpoint(task.head, config.student.path, "--model")
    model = models.of_checkpoint(task.head, source, config.student.dtype)
    models.check_vocabulary(tokenizer, config.student.path, model)
    mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
    feed = task.feed(rules.batch_sharding(mesh, table))

    def vectors(params, batch):
        return content_mean(apply_model(model.module, params, batch).hidden_states[-1], batch["attention_mask"])

    console.say(f"weighing {feed.num_train} texts of {len(names)} domains ...")
    found = feed.collect(jax.jit(vectors), model.placed(mesh, table), "train")
    domains, classes = [], []
    parts = [split for split in ("train", "unlabelled") if split in raw]
    for split in parts:
        domains += [names.index(name_of(value)) for value in raw[split].columns["domain_ids"]]
        classes += [-1] * len(raw[split]) if split == "unlabelled" else list(raw[split].labels)
    weights = prototype_weights(found, np.asarray(domains), np.asarray(classes), by=by, centred=centred)
    # lambda and the teacher's loss take a weight as a share: a text unlike all others counts nothing, never less.
    weights = np.maximum(weights, 0.0)
    first = len(raw["train"])
    return {"train": weights[:first], "unlabelled": weights[first:]}


def _rows(part: RawSplit, label_names, names, options, weights: np.ndarray | None) -> list[dict[str, Any]]:
    rows = []
    for i in range(len(part)):
        row: dict[str, Any] = {options.text_column: part.texts_a[i]}
        if part.texts_b is not None:
            row[options.text_pair_column] = part.texts_b[i]
        if part.labels is not None and part.labels[i] is not None:
            row[options.label_column] = label_names[part.labels[i]]
        name = name_of(part.columns["domain_ids"][i])
        weight = 1.0 if weights is None else float(weights[i])
        rows.append(row | {"domain": name, "domain_number": names.index(name), "weight": weight})
    return rows


def _remove_earlier(output: Path) -> None:
    """What was weighed here before: its domains and splits need not be those of now."""
    for marker in [output / claims.WEIGHED.marker, *output.glob(f"*/{claims.WEIGHED.marker}")]:
        for split in SPLITS:
            (marker.parent / f"{split}.jsonl").unlink(missing_ok=True)
        if marker.parent != output and os.listdir(marker.parent) == [marker.name]:
            shutil.rmtree(marker.parent)


def _write(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    claims.claim(folder, claims.WEIGHED, "--output")
    for split, part in rows.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        whole.write_text(folder / f"{split}.jsonl", lines)


def _spread(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    spread = {}
    for name in dict.fromkeys(row["domain"] for row in rows):
        values = np.asarray([row["weight"] for row in rows if row["domain"] == name])
        spread[name] = {
            "rows": len(values),
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "least": float(values.min()),
            "most": float(values.max()),
        }
    return spread


def prepare(
    domain_column: str,
    domains: Sequence[str],
    job: Path,
    given: str,
    overrides: Sequence[tuple[str, str]],
    is_begun: bool,
) -> None:
    """Weighs the texts of a job into `job / "weighed"`, where that was not done before with the same.

    Args:
      domain_column, domains: as of `weigh`.
      given: the encoder that weighs.
      overrides: of every stage of the job: the user's files and columns.
      is_begun: stages were trained on what was weighed. Further domains and a further test file are weighed with it.

    Raises:
      UserError: the texts have changed since then.
    """
    folder, config = job / "weighed", config_of([("student.path", given), *overrides])
    of_texts = _identity(config.data, domain_column)
    of_all = {"texts": of_texts, "model": given, "domains": list(domains), "test": content(config.data.test_path)}
    before = json.loads((folder / MADE_OF).read_text(encoding="utf-8")) if (folder / MADE_OF).exists() else {}
    if before == of_all:
        return
    if is_begun and before.get("texts") != of_texts:
        raise UserError(
            f"the data changed since {job} was begun; choose another --output, or give the files as they were"
        )
    console.say(f"== weighing texts -> {folder}")
    weigh(config, domain_column, folder, domains=domains)
    whole.write_json(folder / MADE_OF, of_all)


def _identity(options: ConfigDict, domain_column: str) -> str:
    """What of the data the weights are made of: all files but the test file, and which columns of them."""
    files = [content(options[f"{split}_path"]) for split in ("train", "dev", "unlabelled")]
    columns = [options.text_column, options.text_pair_column, options.label_column, domain_column, options.max_length]
    return json.dumps([files, columns])


def config_of(overrides: Sequence[tuple[str, str]]) -> ConfigDict:
    """The config of a stage on texts of several domains: its data, and the model that weighs as its student."""
    return stage_config.load("configs/meta_kd/teacher.py:own,mixed", list(overrides))


def domains_in(options: ConfigDict, domain_column: str) -> list[str]:
    """The domains of the user's files, in the order of their names.

    Args:
      options: `data` section of a config.

    Raises:
      UserError: bad data, or a name that cannot be one of a folder.
    """
    options.columns = f"domain_ids={domain_column}"
    splits = dataset.read(options).splits
    names = sorted({name_of(value) for part in splits.values() for value in part.columns.get("domain_ids", ())})
    if odd := [name for name in names if not NAME.fullmatch(name)]:
        raise UserError(
            f"domain {odd[0]!r} cannot name a folder; write domains with letters, digits, '-', '_' and '.' only"
        )
    return names
