"""A finished model, judged on a split of its own data or of those that a config names; a sentence encoder by files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.processes.user_error import UserError

_BY_VECTORS = "--sts, --clustering and --classification"


def evaluate(
    model: str,
    config: str = "",
    split: str = "dev",
    *,
    input: str = "",
    text_column: str = "",
    text_pair_column: str = "",
    label_column: str = "",
    domain_column: str = "",
    batch_size: int = 0,
    sts: str = "",
    clustering: str = "",
    classification: str = "",
    cluster_seeds: int = 10,
    overrides: config_lib.Overrides = (),
) -> dict[str, Any]:
    """The scores of a model on a split; on dev also its distance to the teacher of the config, where that is here.

    Args:
      model: workdir of `train`, folder of `compress`, Hugging Face folder or hub name.
      config: names the data; empty: the config of the workdir, of a job that of its main stage.
      split: of the data.
      input: a .tsv, .csv or .jsonl with labels, in the place of a split.
      text_column, text_pair_column, label_column: of that; empty: those of the model's run.
      domain_column: of that; scores by domain and a probe for it are told as well, see `jobs.by_domain`.
      batch_size: examples that are run together; 0: data.eval_batch_size.
      sts, clustering, classification: what a sentence encoder is judged by, in the place of a split: see
        `jobs.sentence_scores`, which also says what is returned then.
      cluster_seeds: of k-means.
      overrides: dotted key -> value, or pairs of them, of the config.

    Raises:
      UserError: no config, a split that does not exist or has no labels, a model without a head for the task.

    Example:
      >>> codir_jax.evaluate("runs/student", split="dev")
      {'model': 'runs/student', 'task': 'sst2', 'split': 'dev', 'accuracy': ...}
    """
    overrides = config_lib.as_texts(overrides)
    by_vectors = {"sts": sts, "clustering": clustering, "classification": classification}
    if split != "dev" and (input or any(by_vectors.values())):
        raise UserError(f"--split={split} is not of --input, {_BY_VECTORS}, which are files; leave one out")
    if not isinstance(input, str):
        raise UserError(f"input is a {type(input).__name__}; expected the path of a labelled file")
    if input:
        if config or any(by_vectors.values()):
            raise UserError(f"--input is the data to judge by, beside --config, {_BY_VECTORS}; leave one out")
        columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
        judged = _of_file(model, input, columns, batch_size, overrides)
        if domain_column:
            from codir_jax.jobs import by_domain

            return {"model": model, "input": input, **by_domain.scores(judged, model, domain_column)}
        from codir_jax.stage.evaluate import evaluate as of_stage

        return {"model": model, "input": input, **of_stage(judged, model)}
    if text_column or text_pair_column or label_column or domain_column:
        raise UserError(
            "--text_column, --text_pair_column, --label_column and --domain_column are of --input; give that too"
        )
    if any(by_vectors.values()):
        if config:
            raise UserError(f"--config names data of its own, beside {_BY_VECTORS}; leave one of them out")
        from codir_jax.jobs import sentence_scores

        settings = {"batch_size": batch_size or 32, "num_seeds": cluster_seeds, "overrides": overrides}
        return sentence_scores.scores(model, **by_vectors, **settings)
    from codir_jax.stage.evaluate import evaluate as of_stage

    named = data_config(model, config, overrides)
    if batch_size:
        if "eval_batch_size" not in named.data:
            raise UserError(
                f"--batch_size={batch_size} is of classifiers and encoders, and {model} is neither; leave it out"
            )
        config_lib.set_from_text(named, "data.eval_batch_size", str(batch_size))
    return {"model": model, "task": named.data.name, "split": split, **of_stage(named, model, split)}


def _of_file(
    model: str, path: str, columns: Mapping[str, str], batch_size: int, overrides: Sequence[tuple[str, str]]
) -> ConfigDict:
    """The config of a stage whose dev split is a labelled file: the classes are the model's, texts are cut where it is
    served."""
    from codir_jax.convert import pretrained
    from codir_jax.convert.folder import model_folder
    from codir_jax.data import table_labels
    from codir_jax.data import tokenizer as tokenizer_lib
    from codir_jax.models.heads import head_spec
    from codir_jax.objectives import finetune
    from codir_jax.stage import config as stage_config

    folder = model_folder(model, "--model")
    if head_spec(pretrained.stored_head(folder)).labels is None:
        raise UserError(f"{model} answers with no labels; --input is of classifiers and regressions")
    source = pretrained.load_pretrained(folder)
    labels = source.labels
    names = labels.names or tuple(str(number) for number in range(source.num_labels))
    config = stage_config.default_config(finetune.default_config())
    saved = stage_config.load(_saved(model)).data if _saved(model) else {}
    data = {name: given or saved.get(name, config.data[name]) for name, given in columns.items()}
    data |= {"name": "text_classification", "dev_path": path, "is_regression": labels.is_regression}
    data |= {"is_multi_label": labels.is_multi_label}
    data |= {"label_separator": saved.get("label_separator", "")} if labels.is_multi_label else {}
    config.data.update(data)
    config.data.label_names = "" if labels.is_regression else table_labels.list_names(names)
    tokenizer = tokenizer_lib.load_tokenizer(folder, source.config.vocab_size)
    config.data.max_length = tokenizer_lib.served_length(tokenizer, source.config.max_length)
    config.data.eval_batch_size = batch_size or config.data.eval_batch_size
    for key, text in overrides:
        config_lib.set_from_text(config, key, text)
    return config


def data_config(model: str, spec: str, overrides: Sequence[tuple[str, str]]) -> ConfigDict:
    """The config that names the data: that of `spec`, else the one saved in the model's workdir or job.

    Raises:
      UserError: there is neither.
    """
    spec = spec or _saved(model)
    if not spec:
        raise UserError(
            f"{model} is no workdir, so --config must name the data, e.g. "
            "--config=configs/codir/finetune_distill.py:cola"
        )
    from codir_jax.stage import config as stage_config

    return stage_config.load(spec, overrides)


def text_columns(model: str) -> tuple[str, str]:
    """Columns of the first and second texts that the run of a model read; "" for none, and where it is of no run."""
    from codir_jax.stage import config as stage_config

    data = stage_config.load(_saved(model)).data if _saved(model) else {}
    return data.get("text_column", ""), data.get("text_pair_column", "")


def _saved(model: str) -> str:
    """The config.json of a workdir, or of the main stage of a job; "" where there is none."""
    folder = Path(model).expanduser()
    results = folder / "results.json"
    if not (folder / "best").is_dir() and results.exists():
        folder /= json.loads(results.read_text(encoding="utf-8")).get("main", "")
    saved = folder / "config.json"
    return str(saved) if (folder / "best").is_dir() and saved.exists() else ""
