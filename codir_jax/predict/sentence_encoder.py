"""A sentence encoder ready to use: texts in, one vector each out."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from codir_jax.convert import pretrained
from codir_jax.convert.folder import model_folder
from codir_jax.convert.formats.contract import HUGGINGFACE
from codir_jax.convert.sentence_folder import unit_rows
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.length_buckets import LADDER
from codir_jax.data.splits import Examples
from codir_jax.models.heads import build_model
from codir_jax.predict import in_format
from codir_jax.predict.in_format import InFormat
from codir_jax.predict.on_devices import OnDevices
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError

# Texts of a stream that are sorted by length together: enough that batches are of like lengths, few megabytes.
CHUNK = 8192


def load(path: str, *, batch_size: int = 32, format: str = HUGGINGFACE) -> "SentenceEncoder":
    """The sentence encoder in a folder of sentence-transformers, a workdir of `codir train`, or of a hub name.

    Of a plain encoder the vector is the mean of the tokens' states.

    Args:
      path: with config.json, model.safetensors and tokenizer files.
      batch_size: texts that are run together; rounded up to a multiple of the devices.
      format: who computes: JAX, or the runtime of a format that the folder has, "onnx-int8".

    Raises:
      UserError: the folder is missing or damaged, or makes its vectors in a way that is not known here.

    Example:
      >>> encoder = codir_jax.load("runs/pair_supcon/export")
      >>> encoder.encode(["the cats sleep", "the dogs bark"]).shape
      (2, 128)
    """
    folder = model_folder(path, "model")
    source = pretrained.load_pretrained(folder, head="embedding")
    if not source.has_head:
        raise UserError(f"{path} lacks {', '.join(source.new_weights)}, which its vectors go through; fetch it again")
    made = SentenceEncoder(source, tokenizer_lib.load_tokenizer(folder, source.config.vocab_size), batch_size)
    return in_format.answering(made, folder, format)


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """Makes vectors of texts.

    Attributes:
      source: the checkpoint. tokenizer: its tokenizer. batch_size: texts run together.
      runtime: that computes; None: JAX, on all devices.
    """

    source: pretrained.Pretrained
    tokenizer: Any
    batch_size: int = 32
    runtime: InFormat | None = None

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.source.config.hidden_size

    @property
    def max_length(self) -> int:
        """Longest text in tokens; of a longer one the rest is left out."""
        longest = self.source.sentence.max_length or self.tokenizer.model_max_length
        return min(longest, self.source.config.max_length, LADDER[-1])

    def encode(
        self, texts: Sequence[str], *, normalize: bool = False, batch_size: int | None = None, progress: bool = False
    ) -> np.ndarray:
        """The vectors float32 [n, width], in the order of the texts.

        Args:
          texts: of any number and length; an empty text has a vector, too.
          normalize: to norm 1; a folder with a Normalize module has such vectors without it.
          batch_size: texts that are run together; None: as loaded.
          progress: shows a bar on a terminal.
        """
        _check_texts(texts)
        texts = list(map(str, texts))  # of numpy's texts, too
        vectors = np.zeros((len(texts), self.width), np.float32)
        if not len(texts):
            return vectors
        bar = console.progress_bar("embed", 0, len(texts), unit="text") if progress else contextlib.nullcontext()
        with bar:
            for rows, values in self._runtime.each(self._tokenize(texts), batch_size or self.batch_size):
                vectors[rows] = values
                if progress:
                    bar.update(len(rows))
        return unit_rows(vectors) if normalize or self.source.sentence.normalize else vectors

    def encode_stream(self, texts: Iterable[str], *, normalize: bool = False) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yields (texts, their vectors float32 [k, width]) part by part, so that memory stays flat."""
        stream = iter(texts)
        while chunk := list(itertools.islice(stream, CHUNK)):
            yield chunk, self.encode(chunk, normalize=normalize)

    def warm_up(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Compiles what later calls of so many texts need, whatever their length: a server's first answers are slow."""
        self._runtime.warm_up(batch_sizes)

    def _tokenize(self, texts: Sequence[str]) -> Examples:
        if self.source.sentence.do_lower_case:
            texts = [text.lower() for text in texts]
        # Not through the cache of tokens: a stream of millions of texts would fill the disk.
        tokens, token_types, offsets, _ = tokenizer_lib.encode(self.tokenizer, texts, None, self.max_length)
        rows = np.arange(len(texts), dtype=np.int32)
        none = np.zeros(len(texts), np.int32)
        return Examples(tokens, token_types, offsets, labels=none, is_labelled=none.astype(bool), text_ids=rows)

    @functools.cached_property
    def _runtime(self) -> OnDevices | InFormat:
        if self.runtime:
            return self.runtime
        module = build_model(self.source.config, "embedding")
        return OnDevices(module, self.source.params, "vectors", self.tokenizer.pad_token_id, self.max_length)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise UserError("expected a list of texts, got one string; write [text]")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {number} is {text!r}; expected a list of strings")
