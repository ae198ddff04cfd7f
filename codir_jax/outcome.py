"""What a stage leaves behind: `best/` and `results.json`. Every process calls, the first writes."""

from pathlib import Path
from typing import Any

import jax

from codir_jax import build, distributed
from codir_jax import workdir as workdir_lib
from codir_jax.convert import huggingface
from codir_jax.data.batch import Dataset
from codir_jax.data.tokenizer import save_tokenizer
from codir_jax.evaluate import cost
from codir_jax.models.heads import abstract_params
from codir_jax.sharding import placement


def save_best(workdir: Path, model: build.Model, params, text_tokenizer, data: Dataset) -> None:
    """Replaces `best/` in one rename; `params` are gathered from all devices.

    Raises:
      OSError: it cannot be written; `best/` is as it was.
    """
    whole = jax.tree.map(placement.fetch, params)
    if distributed.process_id() != 0:
        return
    aside = workdir / "best.part"
    try:
        _save_model(aside, model, whole, text_tokenizer, data)
    except Exception as error:  # safetensors and tokenizers have errors of their own for a full disk
        raise OSError(f"the best model cannot be written to {aside} ({error})") from error
    workdir_lib.replace_folder(aside, workdir / "best")


def write_results(workdir: Path, model: build.Model, data: Dataset, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes `results.json`: `facts` of the run, and what is known of the model, the data and the machine.

    Args:
      workdir: with `best/` in it.
      model: the student. data: that it was trained on.
      facts: what the run has to tell.
    """

    def write() -> dict[str, Any]:
        best = huggingface.load_pretrained(workdir / "best", num_labels=data.info.num_classes)
        results = {
            **facts,
            "task": data.info.name,
            "primary_metric": data.info.metrics[0],
            "parameters": cost.count_parameters(abstract_params(model.module)),
            "num_examples": {name: len(split) for name, split in data.splits.items()},
            "num_truncated": data.info.num_truncated,
            "best_fingerprint": best.fingerprint,
            "num_processes": distributed.num_processes(),
            **workdir_lib.environment(),
        }
        workdir_lib.write_json(workdir / "results.json", results)
        return results

    return distributed.first_decides(write)


def _save_model(folder: Path, model: build.Model, params, text_tokenizer, data: Dataset) -> None:
    """Writes a Hugging Face folder: config.json, model.safetensors, tokenizer files."""
    hf_config = model.source.hf_config if model.source else None
    info = data.info
    huggingface.save_pretrained(
        folder,
        model.config,
        params,
        label_names=info.label_names or None,
        is_regression=info.is_regression,
        hf_config=hf_config,
    )
    save_tokenizer(text_tokenizer, folder)
