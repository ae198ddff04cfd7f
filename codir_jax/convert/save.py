"""Hugging Face checkpoints out: sizes and weights -> `config.json` and safetensors, without torch.

Writing what `pretrained` read gives the same tensors, byte for byte, under the same names. A model with compressed
weights is written as `compression.packed` has it, in a file of another name: nobody reads it as an ordinary one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from codir_jax.compression import methods, packed
from codir_jax.compression.packed import Weight
from codir_jax.convert import labels as labels_lib
from codir_jax.convert import sentence_folder
from codir_jax.convert.folder import WEIGHTS
from codir_jax.convert.labels import UNTOLD, Labels
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.models import contract, heads
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes import whole

# Keys of a config.json that describe another run or another head, not this checkpoint.
STALE_KEYS = (
    "_name_or_path", "architectures", "finetuning_task", "gradient_checkpointing", "id2label", "label2id",
    "num_labels", "problem_type", "quantization_config", "text_pair", "torch_dtype", "transformers_version",
    # Code of somebody's repository, which whoever loads our folder would be asked to run.
    "auto_map", "custom_pipelines",
)  # fmt: skip


def save_pretrained(
    folder: str | os.PathLike,
    config: TransformerConfig,
    params: Mapping[str, Any],
    *,
    head: str = "classification",
    labels: Labels = UNTOLD,
    sentence: SentenceFacts | None = None,
    hf_config: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `config.json` and `model.safetensors` (float32) and returns the folder.

    Weights that are given as their factors are written so: then the file is `compression.packed.FILE`. Of a sentence
    encoder also what sentence-transformers reads, see `sentence_folder`.

    Args:
        folder: made if it is not there; these two files are replaced.
        config, params: the encoder's sizes, and the weights as nested dict of arrays (unboxed, any device).
        head: of `heads.HEADS`. labels: of a head with labels; their kind is the loss that transformers trains it by.
        sentence: of head "embedding"; its pooling is the config's. None: vectors of any norm, texts of any length.
        hf_config: the `config.json` that the model came from; keys that we do not know are kept.
    """
    weights = methods.weights_of(params)
    return save_weights(folder, config, weights, head=head, labels=labels, sentence=sentence, hf_config=hf_config)


def save_weights(
    folder: str | os.PathLike,
    config: TransformerConfig,
    weights: Mapping[str, Weight],
    *,
    head: str,
    labels: Labels = UNTOLD,
    sentence: SentenceFacts | None = None,
    hf_config: Mapping[str, Any] | None = None,
) -> Path:
    """As `save_pretrained`, of weights as they are to lie in the file: path, "classifier/kernel", -> weight."""
    family, spec = contract.family(config.family), heads.head_spec(head)
    keys = {"/".join(path): key for path, key in family.keys(config, head).items()}
    if set(weights) != set(keys):
        different = sorted(set(weights) ^ set(keys))
        raise ValueError(f"params are not those of a {config.family} {head} model; first differences: {different[:5]}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for path, key in keys.items():
        name = key.name.removeprefix(family.prefix) if spec.is_base else key.name
        tensors[name] = weights[path].transposed() if key.transpose else weights[path]
    written = {
        **{k: v for k, v in (hf_config or {}).items() if k not in STALE_KEYS},
        **family.write_config(config),
        "architectures": [family.class_prefix + spec.architecture],
        "dtype": "float32",
    }
    if spec.labels:
        written |= labels_lib.written(labels, weights["/".join(spec.labels)].shape[0])
    _write_tensors(folder, tensors)
    whole.write_text(folder / "config.json", json.dumps(written, indent=2, sort_keys=True) + "\n")
    if spec.is_base:
        facts = dataclasses.replace(sentence or SentenceFacts(), pooling=config.pooling)
        facts = dataclasses.replace(facts, max_length=facts.max_length or config.max_length)
        sentence_folder.write(folder, facts, config.hidden_size, methods.tree_of(weights).get("pooler"))
    return folder


def _write_tensors(folder: Path, tensors: Mapping[str, Weight]) -> None:
    """The one file of weights: whole or not at all, so that a reader, or a stop in the middle, never meets half."""
    if not all(weight.is_as_it_was for weight in tensors.values()):
        packed.write(folder / packed.FILE, tensors)
        with whole.file(folder / packed.READER, binary=True) as file:
            file.write(Path(packed.__file__).read_bytes())
        (folder / WEIGHTS).unlink(missing_ok=True)
        return
    arrays = {name: np.ascontiguousarray(weight.numbers()) for name, weight in tensors.items()}
    with whole.aside(folder / WEIGHTS) as place:
        save_file(arrays, place, metadata={"format": "pt"})  # transformers refuses a file without "format"
        place.chmod(0o644)  # safetensors writes 0600, which a server under another user cannot read
    for name in (packed.FILE, packed.READER):
        (folder / name).unlink(missing_ok=True)
