"""A folder that anyone can serve: Hugging Face layout, model card, and a verdict that it computes what was trained."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.convert import in_torch, sentence_folder
from codir_jax.convert.labels import UNTOLD, Labels
from codir_jax.convert.model_card import UNKNOWN, Provenance, model_card
from codir_jax.convert.pretrained import Pretrained, load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.data.tokenizer import save_tokenizer, served_length
from codir_jax.models.heads import build_model, head_spec, num_labels_of
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes import console, whole

# Largest difference that float32 kernels of two libraries may leave on a model, by what it answers.
TOLERANCE = {"logits": 1e-4, "vectors": 1e-5}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class ParityError(RuntimeError):
    """The exported folder computes something else than the model it was made from."""


@dataclasses.dataclass(frozen=True)
class ParityVerdict:
    """Attributes:
    max_abs_difference_jax: largest difference of an answer between the model in memory and the folder re-read.
    max_abs_difference_torch: the same against transformers on torch and, of a sentence encoder, sentence-transformers;
        None where torch is not installed, or transformers has no such model.
    passed: both within `TOLERANCE`.
    num_examples: rows compared.
    answer: what was compared: "logits", "vectors".
    """

    max_abs_difference_jax: float
    max_abs_difference_torch: float | None
    passed: bool
    num_examples: int
    answer: str = "logits"

    def __str__(self) -> str:
        torch = "not compared" if self.max_abs_difference_torch is None else f"{self.max_abs_difference_torch:.2e}"
        return (
            f"parity {'passed' if self.passed else 'FAILED'}: largest difference of {self.answer} over "
            f"{self.num_examples} examples {self.max_abs_difference_jax:.2e} re-read, torch {torch} "
            f"(bound {TOLERANCE[self.answer]:.0e})"
        )


def export(
    folder: str | os.PathLike,
    config: TransformerConfig,
    params: Mapping[str, Any],
    tokenizer: Any,
    *,
    head: str = "classification",
    labels: Labels = UNTOLD,
    sentence: SentenceFacts | None = None,
    sample_batch: Mapping[str, np.ndarray],
    results: Mapping[str, Any] | None = None,
    training_config: Mapping[str, Any] | None = None,
    teacher_name: str = "",
    hf_config: Mapping[str, Any] | None = None,
    provenance: Provenance = UNKNOWN,
    title: str = "",
) -> ParityVerdict:
    """Writes a model with its head and compares the folder with the model in memory.

    The folder has `config.json`, `model.safetensors`, the tokenizer's files and `README.md`, the model card.

    Args:
        folder: made if it is not there.
        config, params: the model in memory, nested dict of arrays (unboxed).
        tokenizer: a transformers tokenizer.
        head: of `models.heads.HEADS`.
        labels: of a head with labels. sentence: of a sentence encoder, see `save.save_pretrained`.
        sample_batch: `input_ids`, `attention_mask`, `token_type_ids`, int32 [batch, seq]; a padded row belongs in it.
        results: for the card: metric or name -> number or text, one level of nesting for splits.
        training_config: for the card, in a details block.
        teacher_name: for the card, as `folder.without_path` tells it.
        hf_config: the `config.json` that the model came from; keys that we do not know are kept.
        provenance: for the card. title: of the card; empty: the folder's name.

    Raises:
        ParityError: above `TOLERANCE`.
    """
    max_length = served_length(tokenizer, config.max_length)
    with console.progress_bar("export", 0, 2, unit="part", is_inner=True) as bar:
        told = {"labels": labels, "sentence": sentence, "hf_config": hf_config}
        folder = save_pretrained(folder, config, params, head=head, **told)
        save_tokenizer(tokenizer, folder, max_length)
        bar.update()
        verdict = check_parity(folder, config, params, sample_batch, head)
        bar.update()
    card = model_card(
        title or folder.resolve().name,
        config,
        head,
        labels,
        sentence_folder.read(folder),
        results,
        training_config,
        teacher_name,
        verdict,
        max_length,
        provenance,
    )
    whole.write_text(folder / "README.md", card)
    if not verdict.passed:
        raise ParityError(
            f"{folder}: {verdict}. It is not served; export again, and if that repeats, report it with the model's "
            "config.json"
        )
    return verdict


def check_parity(
    folder: str | os.PathLike,
    config: TransformerConfig,
    params: Mapping[str, Any],
    sample_batch: Mapping[str, np.ndarray],
    head: str = "classification",
) -> ParityVerdict:
    """Compares the answers of `params` with those of the folder, re-read here and, where installed, by torch.

    Of answers for each token those of padding are left out, which nobody reads: a token of padding whose window holds
    nothing else attends to all tokens here and in transformers' eager attention, to none in its other ones.

    Args:
        folder: as `export` wrote it.
        config, params: the model in memory.
        sample_batch, head: as in `export`.
    """
    inputs = [np.asarray(sample_batch[name], np.int32) for name in INPUTS]
    num_labels = num_labels_of(params, head)
    again = load_pretrained(folder, head=head, num_labels=num_labels)

    is_real = np.asarray(sample_batch["attention_mask"]) > 0

    def read(answer: np.ndarray) -> np.ndarray:
        return answer[is_real] if answer.ndim > 2 else answer

    expected = read(answers_of(dataclasses.replace(again, config=config, params=params), head, inputs))
    jax_difference = distance(expected, read(answers_of(again, head, inputs)))
    if not again.has_head:  # else a head drawn at random could be judged instead of a stored one
        jax_difference = float("inf")
    torch_difference = None
    if importlib.util.find_spec("torch") is not None:
        named = dict(zip(INPUTS, inputs, strict=True))
        theirs = in_torch.answers(folder, named, head)
        torch_difference = max((distance(expected, read(one)) for one in theirs), default=None)
    differences = [d for d in (jax_difference, torch_difference) if d is not None]
    return ParityVerdict(
        max_abs_difference_jax=jax_difference,
        max_abs_difference_torch=torch_difference,
        passed=all(d <= TOLERANCE[head_spec(head).answer] for d in differences),  # NaN does not pass
        num_examples=len(inputs[0]),
        answer=head_spec(head).answer,
    )


def answers_of(source: Pretrained, head: str, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """What a checkpoint answers here: float32 [batch, ...].

    Args:
        source: with its weights. head: of `models.heads.HEADS`.
        inputs: `input_ids`, `attention_mask`, `token_type_ids`, int32 [batch, seq].
    """
    return np.asarray(_forward_of(source, head)(source.params, *inputs))


def apply(source: Pretrained, head: str, params: Mapping[str, Any], *inputs: jax.Array) -> jax.Array:
    """The same as operations of jax, for a program that is to be compiled."""
    return _forward_of(source, head)(params, *inputs)


def _forward_of(source: Pretrained, head: str):
    is_unit = bool(source.sentence and source.sentence.normalize)
    return _forward(source.config, head, num_labels_of(source.params, head) or 1, is_unit)


@functools.cache  # what was trained and what was re-read are one model: one compilation
def _forward(config: TransformerConfig, head: str, num_labels: int, is_unit: bool):
    model = build_model(config, head, num_labels)
    answer = head_spec(head).answer

    def forward(params, *inputs):
        found = getattr(model.apply({"params": params}, *inputs), answer)
        return found / jnp.maximum(jnp.linalg.norm(found, axis=-1, keepdims=True), 1e-12) if is_unit else found

    return jax.jit(forward)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays; infinite where they have not the same shape."""
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else float("inf")
