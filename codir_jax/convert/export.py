"""A folder that anyone can serve: Hugging Face layout, model card, and a verdict that it computes what was trained."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from codir_jax.convert.folder import without_path
from codir_jax.convert.huggingface import load_pretrained, save_pretrained
from codir_jax.models.contract import family
from codir_jax.models.heads import build_model, head_spec, num_labels_of
from codir_jax.models.transformer import TransformerConfig

# Largest difference of a logit that float32 kernels of two libraries may leave on a model.
TOLERANCE = 1e-4
IN_JAX = [
    "Without torch, in JAX:",
    "",
    "```python",
    "import codir_jax",
    "",
    'model = codir_jax.load("path/to/this/folder")',
    'print(model(["A text."]))',
    "```",
    "",
]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class ParityError(RuntimeError):
    """The exported folder computes other logits than the model it was made from."""


@dataclasses.dataclass(frozen=True)
class ParityVerdict:
    """Attributes:
    max_abs_difference_jax: largest logit difference between the model in memory and the folder re-read.
    max_abs_difference_torch: the same against transformers on torch; None where torch is not installed.
    passed: both within `TOLERANCE`.
    num_examples: rows compared.
    """

    max_abs_difference_jax: float
    max_abs_difference_torch: float | None
    passed: bool
    num_examples: int

    def __str__(self) -> str:
        torch = "not installed" if self.max_abs_difference_torch is None else f"{self.max_abs_difference_torch:.2e}"
        return (
            f"parity {'passed' if self.passed else 'FAILED'}: largest logit difference over {self.num_examples} "
            f"examples {self.max_abs_difference_jax:.2e} re-read, torch {torch} (bound {TOLERANCE:.0e})"
        )


def export(
    folder: str | os.PathLike,
    config: TransformerConfig,
    params: Mapping[str, Any],
    tokenizer: Any,
    *,
    head: str = "classification",
    label_names: Sequence[str] | None = None,
    is_regression: bool = False,
    sample_batch: Mapping[str, np.ndarray],
    results: Mapping[str, Any] | None = None,
    training_config: Mapping[str, Any] | None = None,
    teacher_name: str = "",
    hf_config: Mapping[str, Any] | None = None,
) -> ParityVerdict:
    """Writes a model with its head and compares the folder with the model in memory.

    The folder has `config.json`, `model.safetensors`, the tokenizer's files and `README.md`, the model card.

    Args:
        folder: made if it is not there.
        config, params: the model in memory, nested dict of arrays (unboxed).
        tokenizer: a transformers tokenizer.
        head: of `models.heads.HEADS`.
        label_names: in the order of the logits; None: "LABEL_0", ...
        is_regression: one output, squared error.
        sample_batch: `input_ids`, `attention_mask`, `token_type_ids`, int32 [batch, seq]; a padded row belongs in it.
        results: for the card: metric or name -> number or text, one level of nesting for splits.
        training_config: for the card, in a details block.
        teacher_name: for the card, as `folder.without_path` tells it.
        hf_config: the `config.json` that the model came from; keys that we do not know are kept.

    Raises:
        ParityError: above `TOLERANCE`; the folder is left for inspection.
    """
    labels = {"label_names": label_names, "is_regression": is_regression}
    folder = save_pretrained(folder, config, params, head=head, hf_config=hf_config, **labels)
    tokenizer.save_pretrained(str(folder))
    verdict = check_parity(folder, config, params, sample_batch, head)
    card = model_card(
        folder.resolve().name, config, head, label_names, is_regression, results, training_config, teacher_name, verdict
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    if not verdict.passed:
        raise ParityError(
            f"{folder}: {verdict}. Do not serve this folder; export again, and if it repeats, report it with its "
            f"config.json"
        )
    return verdict


def check_parity(
    folder: str | os.PathLike,
    config: TransformerConfig,
    params: Mapping[str, Any],
    sample_batch: Mapping[str, np.ndarray],
    head: str = "classification",
) -> ParityVerdict:
    """Compares logits of `params` with those of the folder, re-read here and, where installed, by torch.

    Args:
        folder: as `export` wrote it.
        config, params: the model in memory.
        sample_batch, head: as in `export`.
    """
    inputs = [np.asarray(sample_batch[name], np.int32) for name in INPUTS]
    num_labels = num_labels_of(params, head)
    expected = _logits(config, params, inputs, head, num_labels)
    again = load_pretrained(folder, head=head, num_labels=num_labels)
    jax_difference = _distance(expected, _logits(again.config, again.params, inputs, head, num_labels))
    if not again.has_head:  # else a head drawn at random could be judged instead of a stored one
        jax_difference = float("inf")
    torch_difference = None
    if importlib.util.find_spec("torch") is not None:
        torch_difference = _distance(expected, _torch_logits(folder, inputs, head))
    differences = [d for d in (jax_difference, torch_difference) if d is not None]
    return ParityVerdict(
        max_abs_difference_jax=jax_difference,
        max_abs_difference_torch=torch_difference,
        passed=all(d <= TOLERANCE for d in differences),  # NaN does not pass
        num_examples=len(inputs[0]),
    )


def model_card(
    name: str,
    config: TransformerConfig,
    head: str,
    label_names: Sequence[str] | None,
    is_regression: bool,
    results: Mapping[str, Any] | None,
    training_config: Mapping[str, Any] | None,
    teacher_name: str,
    verdict: ParityVerdict,
) -> str:
    """The folder's README.md: YAML front matter, what it is, results, how to load it, limits, training config."""
    about, teacher = head_spec(head).card, without_path(teacher_name)
    front = {
        "library_name": "transformers",
        "pipeline_tag": about.pipeline_tag,
        "tags": [config.family, about.pipeline_tag, "knowledge-distillation", "codir"],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", "", f"# {name}", ""]
    lines.append(
        f"A {family(config.family).title} encoder of {config.in_words}, that {about.does(label_names, is_regression)}. "
        "Trained with codir_jax" + (f"; its teacher was `{teacher}`." if teacher else ".")
    )
    if label_names and not is_regression:
        lines += ["", "Labels: " + ", ".join(f"`{i}` {label}" for i, label in enumerate(label_names)) + "."]
    lines += ["", "## Results", ""]
    rows = list(_rows(results or {}))
    if rows:
        lines += ["| measure | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)]
    else:
        lines.append("None were given at export.")
    lines += ["", f"Export check: {verdict}.", "", "## How to load it", "", "```python"]
    lines += [
        f"from transformers import {about.auto_class}, AutoTokenizer  # needs torch",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        f'model = {about.auto_class}.from_pretrained("path/to/this/folder")',
        f"print(model(**{about.example}).logits)",
        "```",
        "",
        *(IN_JAX if about.is_loadable else []),
        "## Limits",
        "",
        f"* At most {config.max_length} tokens; longer inputs must be cut.",
        "* A compressed model inherits its teacher's mistakes and biases, and is less robust than it away from the "
        "training text.",
        "* The scores above hold for the data that they were measured on.",
    ]
    if training_config:
        dump = json.dumps(training_config, indent=2, sort_keys=True, default=str)
        lines += ["", "<details><summary>Training config</summary>", "", "```json", dump, "```", "", "</details>"]
    return "\n".join(lines) + "\n"


def _rows(results: Mapping[str, Any], prefix: str = ""):
    for key, value in results.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{key} ")
        elif isinstance(value, float):
            yield f"{prefix}{key}", f"{value:.4g}"
        elif isinstance(value, str | int):
            yield f"{prefix}{key}", str(value).replace("|", "\\|")


def _logits(config: TransformerConfig, params: Mapping[str, Any], inputs, head: str, num_labels: int | None):
    return np.asarray(_forward(config, head, num_labels or 1)(params, *inputs))


@functools.cache  # what was trained and what was re-read are one model: one compilation
def _forward(config: TransformerConfig, head: str, num_labels: int):
    model = build_model(config, head, num_labels)
    return jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs).logits)


def _torch_logits(folder: str | os.PathLike, inputs: Sequence[np.ndarray], head: str) -> np.ndarray:
    import torch
    import transformers

    model = (
        getattr(transformers, head_spec(head).card.auto_class).from_pretrained(str(folder), dtype=torch.float32).eval()
    )
    named = {name: torch.from_numpy(x.astype(np.int64)) for name, x in zip(INPUTS, inputs, strict=True)}
    with torch.no_grad():
        return model(**named).logits.numpy()


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else float("inf")
