"""A trained classifier ready to use: texts in, labels and probabilities out; also what evaluates a model folder."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from codir_jax.convert import huggingface
from codir_jax.convert.folder import model_folder
from codir_jax.data import dataset
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.batch import Dataset, Examples, RawSplit
from codir_jax.data.length_buckets import LADDER
from codir_jax.models.heads import build_model, head_spec
from codir_jax.predict.on_devices import OnDevices
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.classification import check_label_names, read_data, require_split


def load(path: str, *, batch_size: int = 32) -> "Predictor":
    """The classifier in a Hugging Face folder, a workdir of `codir train`, or of a hub name.

    Args:
      path: with config.json, model.safetensors and tokenizer files.
      batch_size: texts that are run together; rounded up to a multiple of the devices.

    Raises:
      UserError: the folder is missing, damaged or has no classification head.

    Example:
      >>> classify = codir_jax.load("runs/quickstart/export")
      >>> classify(["the cats that the dog sees sleep"])[0]["label"]
    """
    folder = model_folder(path, "model")
    source = huggingface.load_pretrained(folder)
    if not source.has_head:
        what = f"{path} has no trained classification head ({', '.join(source.new_weights)} are missing)"
        stored = huggingface.stored_head(folder)
        if stored != "classification":
            vectors = f"; its vectors: codir embed --model={path}" if stored == "embedding" else ""
            what = (
                f"{path} is no classifier but a {head_spec(stored).card.pipeline_tag} model; fine-tune it for your "
                "labels: codir train --config=configs/codir/finetune_teacher.py:own "
                f"--config.student.path={path} --workdir=DIR{vectors}"
            )
        raise UserError(what)
    return Predictor(source, tokenizer_lib.load_tokenizer(folder), batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """Callable classifier or regressor.

    Attributes:
      source: the checkpoint. tokenizer: its tokenizer. batch_size: texts run together.
    """

    source: huggingface.Pretrained
    tokenizer: Any
    batch_size: int

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each class; LABEL_0, ... where the checkpoint has none; () for a regression."""
        if self.source.is_regression:
            return ()
        return self.source.label_names or tuple(f"LABEL_{i}" for i in range(self.source.num_labels))

    def __call__(self, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """One dict a text, in order: {"label", "probabilities", "logits"}; a regression: {"value"}.

        Args:
          texts: texts of any length; longer ones than the model takes are truncated.
          text_pairs: second texts, for a model of pairs.
        """
        if isinstance(texts, str):
            raise UserError("expected a list of texts, got one string; write [text]")
        if not texts:
            return []
        rows = RawSplit(list(texts), None if text_pairs is None else list(text_pairs), None)
        examples, _ = dataset.tokenize_split(rows, self.tokenizer, self.max_length, False)
        return [self.describe(row) for row in self.logits(examples)]

    def describe(self, logits: np.ndarray) -> dict[str, Any]:
        """The answer for one row of logits float32 [classes]."""
        if self.source.is_regression:
            return {"value": float(logits[0])}
        probabilities = np.exp(logits - np.logaddexp.reduce(logits))
        return {
            "label": self.label_names[int(logits.argmax())],
            "probabilities": {n: float(p) for n, p in zip(self.label_names, probabilities, strict=True)},
            "logits": [float(x) for x in logits],
        }

    @property
    def max_length(self) -> int:
        """Longest input in tokens: that by which the model was judged; of a longer one the rest is left out."""
        return tokenizer_lib.served_length(self.tokenizer, min(self.source.config.max_length, LADDER[-1]))

    def logits(self, examples: Examples) -> np.ndarray:
        """Logits float32 [n, classes] of a tokenised split, in its order."""
        return self._on_devices.all(examples, self.batch_size)

    @functools.cached_property
    def _on_devices(self) -> OnDevices:
        module = build_model(self.source.config, "classification", self.source.num_labels)
        return OnDevices(module, self.source.params, "logits", self.tokenizer.pad_token_id)

    def of_split(self, data: Dataset, split: str) -> list[dict[str, Any]]:
        """The answers for a split of `read_data`, in its order: labelled rows first.

        Raises:
          UserError: there is no such split.
        """
        require_split(data, split)
        return [self.describe(row) for row in self.logits(data.splits[split])]

    def read_data(self, config) -> Dataset:
        """The data that `config` (a whole stage's) names, tokenised for this model.

        Raises:
          UserError: its classes are not the model's.
        """
        data = read_data(config, self.tokenizer)
        info = data.info
        if info.num_classes != self.source.num_labels:
            raise UserError(
                f"the model has {self.source.num_labels} outputs, data {info.name} has {info.num_classes} classes"
            )
        check_label_names(self.source, info, str(self.source.folder))
        return data


def predict_lines(predictor: Predictor, lines: Iterator[tuple[str, str | None]]) -> Iterator[dict[str, Any]]:
    """Answers for a stream of (text, second text or None), a thousand at a time, so that memory stays flat."""
    chunk: list[tuple[str, str | None]] = []

    def answers():
        texts, pairs = [a for a, _ in chunk], [b for _, b in chunk]
        return predictor(texts, pairs if pairs[0] is not None else None)

    for line in lines:
        chunk.append(line)
        if len(chunk) == 1024:
            yield from answers()
            chunk = []
    if chunk:
        yield from answers()
