"""The `export` verb: a workdir's best model, or a folder, as a Hugging Face folder with a parity verdict."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from codir_jax.convert import export, huggingface
from codir_jax.convert.folder import NOISE_FILE, model_folder, without_path
from codir_jax.data import dataset, pipeline
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.batch import RawSplit
from codir_jax.data.length_buckets import ladder
from codir_jax.processes.user_error import UserError

# A few texts of different lengths, on which an export is compared with its source.
TEXTS = ("A small model.", "The keys to the cabinet are on the table that nobody uses any more.", "No.")


def export_model(model: str, output: str) -> str:
    """Exports a classifier, a masked LM or a sentence encoder; returns the parity verdict in words.

    Args:
      model: workdir of `codir train`, Hugging Face folder or hub name.
      output: folder to write.

    Raises:
      UserError: the model has no trained head.
      convert.export.ParityError: logits differ by more than 1e-4, or vectors by more than 1e-5, after re-reading.
    """
    folder = model_folder(model, "--model")
    head = huggingface.stored_head(folder)
    source = huggingface.load_pretrained(folder, head=head)
    if not source.has_head:
        raise UserError(f"{model} has no trained head ({', '.join(source.new_weights)} are missing)")
    tokenizer = tokenizer_lib.load_tokenizer(folder, source.config.vocab_size)
    results, config = (
        json.loads(path.read_text(encoding="utf-8")) if (path := Path(model) / name).exists() else None
        for name in ("results.json", "config.json")
    )
    is_run = config is not None and "objective" in config  # else the config.json of a Hugging Face folder
    config = _without_paths(config) if is_run else None
    card_results = None
    if results is not None:
        card_results = {key: results[key] for key in ("dev", "seed", "parameters", "teacher_dev") if results.get(key)}
    verdict = export.export(
        output,
        source.config,
        source.params,
        tokenizer,
        head=head,
        label_names=source.label_names,
        is_regression=source.is_regression,
        is_pair=source.is_pair,
        sentence=source.sentence,
        sample_batch=sample_batch(tokenizer, min(source.config.max_length, 64)),
        results=card_results,
        training_config=config,
        teacher_name=(config or {}).get("teacher", {}).get("path", ""),
        hf_config=source.hf_config,
    )
    if (noise := source.folder / NOISE_FILE).is_file():
        shutil.copy2(noise, output)
    return str(verdict)


def sample_batch(tokenizer, max_length: int) -> dict[str, np.ndarray]:
    """TEXTS as a padded batch of `data.batch`."""
    examples, _ = dataset.tokenize_split(RawSplit(list(TEXTS)), tokenizer, max_length, False)
    return pipeline.collate(
        examples,
        np.arange(len(TEXTS)),
        batch_size=len(TEXTS),
        length_buckets=ladder(max_length),
        pad_token_id=tokenizer.pad_token_id,
    )


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The config for a model card: of a path of this machine only the last part is told, a hub name whole."""
    told: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            told[key] = _without_paths(value)
        elif isinstance(value, str) and key in ("path", "tokenizer_path"):  # a model's: may be a hub name
            told[key] = without_path(value)
        elif isinstance(value, str) and key.endswith(("path", "_dir", "sources")):
            told[key] = Path(value).name
        else:
            told[key] = value
    return told
