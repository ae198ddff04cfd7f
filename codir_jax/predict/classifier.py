"""A trained classifier ready to use: texts in, labels and probabilities out; also what evaluates a model folder."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from codir_jax.convert import pretrained
from codir_jax.convert.folder import model_folder
from codir_jax.convert.formats.contract import HUGGINGFACE
from codir_jax.data import dataset
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.length_buckets import LADDER
from codir_jax.data.splits import Dataset, Examples, RawSplit
from codir_jax.data.text_stream import Row
from codir_jax.models.heads import build_model, head_spec
from codir_jax.predict import in_format
from codir_jax.predict.in_format import InFormat
from codir_jax.predict.on_devices import OnDevices
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.classification import check_label_names, read_data, require_split


def load(path: str, *, batch_size: int = 32, format: str = HUGGINGFACE) -> "Predictor":
    """The classifier in a Hugging Face folder, a workdir of `codir train`, or of a hub name.

    Args:
      path: with config.json, model.safetensors and tokenizer files.
      batch_size: texts that are run together; rounded up to a multiple of the devices.
      format: who computes: JAX, or the runtime of a format that the folder has, "onnx-int8".

    Raises:
      UserError: the folder is missing, damaged or has no classification head.

    Example:
      >>> classify = codir_jax.load("runs/quickstart/export")
      >>> classify(["the cats that the dog sees sleep"])[0]["label"]
    """
    folder = model_folder(path, "model")
    source = pretrained.load_pretrained(folder)
    if not source.has_head:
        missing = ", ".join(source.new_weights)
        what = (
            f"{path} has no trained classification head ({missing}: not there, or of another shape than "
            f"{source.num_labels} classes have)"
        )
        stored = pretrained.stored_head(folder)
        if stored != "classification":
            vectors = f"; its vectors: codir embed --model={path}" if stored == "embedding" else ""
            what = (
                f"{path} is no classifier but a {head_spec(stored).card.pipeline_tag} model; fine-tune it for your "
                "labels: codir train --config=configs/codir/finetune_teacher.py:own "
                f"--config.student.path={path} --workdir=DIR{vectors}"
            )
        raise UserError(what)
    made = Predictor(source, tokenizer_lib.load_tokenizer(folder, source.config.vocab_size), batch_size)
    return in_format.answering(made, folder, format)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """Callable classifier or regressor.

    Attributes:
      source: the checkpoint. tokenizer: its tokenizer. batch_size: texts run together.
      runtime: that computes; None: JAX, on all devices.
    """

    source: pretrained.Pretrained
    tokenizer: Any
    batch_size: int
    runtime: InFormat | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each class; LABEL_0, ... where the checkpoint has none; () for a regression."""
        if self.source.labels.is_regression:
            return ()
        return self.source.labels.names or tuple(f"LABEL_{i}" for i in range(self.source.num_labels))

    def __call__(self, texts: Iterable, text_pairs: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """One dict a text, in order: {"label", "probabilities", "logits"}; a regression: {"value"}.

        Of a model of any number of labels a text {"labels", "probabilities", "logits"}: those of a probability above
        0.5, the likeliest first.

        Args:
          texts: a list, tuple, numpy array or column of texts of any length, or of pairs (first, second); of texts
            that are longer than `max_length` the rest is left out.
          text_pairs: second texts, for a model of pairs.

        Raises:
          UserError: what is no text, or single texts for a model of pairs, and the other way round.
        """
        firsts, seconds = _columns(texts, text_pairs)
        if not firsts:
            return []
        self.check_kind(seconds is not None)
        examples, _ = dataset.tokenize_split(RawSplit(firsts, seconds, None), self.tokenizer, self.max_length, False)
        return [self.describe(row) for row in self.logits(examples)]

    def warm_up(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Compiles what later calls of so many texts need, whatever their length: a server's first answers are slow."""
        self._runtime.warm_up(batch_sizes)

    def check_kind(self, is_pair: bool) -> None:
        """Refuses single texts for a model of pairs, and the other way round, where its folder says which it is.

        Raises:
          UserError: with what to do.
        """
        expected = self.source.labels.is_pair
        if expected is None or expected == is_pair:
            return
        kinds = ("single texts", "pairs of texts")
        how = (
            "give second texts: --text_pair_column=NAME, or model(texts, text_pairs)"
            if expected
            else ("leave the second texts out")
        )
        raise UserError(f"{self.source.folder} answers {kinds[expected]}, and got {kinds[is_pair]}; {how}")

    def describe(self, logits: np.ndarray) -> dict[str, Any]:
        """The answer for one row of logits float32 [classes]."""
        if self.source.labels.is_regression:
            return {"value": float(logits[0])}
        names, several = self.label_names, self.source.labels.is_multi_label
        probabilities = np.exp(logits - (np.logaddexp(0, logits) if several else np.logaddexp.reduce(logits)))
        answer = {"label": names[int(logits.argmax())]}
        if several:
            answer = {"labels": [names[i] for i in np.argsort(-logits, kind="stable") if logits[i] > 0]}
        return {
            **answer,
            "probabilities": {n: float(p) for n, p in zip(names, probabilities, strict=True)},
            "logits": [float(x) for x in logits],
        }

    @property
    def max_length(self) -> int:
        """Longest input in tokens: that by which the model was judged; of a longer one the rest is left out."""
        return tokenizer_lib.served_length(self.tokenizer, min(self.source.config.max_length, LADDER[-1]))

    def logits(self, examples: Examples) -> np.ndarray:
        """Logits float32 [n, classes] of a tokenised split, in its order."""
        return self._runtime.all(examples, self.batch_size)

    @functools.cached_property
    def _runtime(self) -> OnDevices | InFormat:
        if self.runtime:
            return self.runtime
        module = build_model(self.source.config, "classification", self.source.num_labels)
        return OnDevices(module, self.source.params, "logits", self.tokenizer.pad_token_id, self.max_length)

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
        self.check_kind(info.is_pair)
        if info.num_classes != self.source.num_labels:
            raise UserError(
                f"the model has {self.source.num_labels} outputs, data {info.name} has {info.num_classes} classes"
            )
        check_label_names(self.source, info, str(self.source.folder))
        return data


def predict_rows(predictor: Predictor, rows: Iterable[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yields rows of texts with their answers, a thousand at a time, so that memory stays flat."""
    stream = iter(rows)
    while chunk := list(itertools.islice(stream, 1024)):
        columns = list(zip(*(row.texts for row in chunk), strict=True))
        yield from zip(chunk, predictor(*columns), strict=True)


def _columns(texts: Iterable, text_pairs: Iterable[str] | None) -> tuple[list[str], list[str] | None]:
    """(first texts, second texts or None)."""
    if isinstance(texts, str):
        raise UserError("expected a list of texts, got one string; write [text]")
    firsts = list(texts)
    if text_pairs is None and firsts and _is_pair(firsts[0]):
        for number, row in enumerate(firsts):
            if not _is_pair(row):
                raise UserError(f"text {number} is {row!r}; expected a pair (first, second), as the first one is")
        firsts, text_pairs = map(list, zip(*firsts, strict=True))
    if text_pairs is None:
        return _checked("text", firsts), None
    seconds = _checked("second text", list(text_pairs))
    if len(seconds) != len(firsts):
        raise UserError(f"expected a second text for each of {len(firsts)} texts, got {len(seconds)}")
    return _checked("text", firsts), seconds


def _is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple | np.ndarray) and len(row) == 2


def _checked(what: str, column: list) -> list[str]:
    for number, text in enumerate(column):
        if not isinstance(text, str):
            raise UserError(f"{what} {number} is {text!r}; expected a text")
    return list(map(str, column))  # of numpy's texts, too
