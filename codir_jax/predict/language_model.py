"""A trained language model ready to use: the score of a sentence, and likely next words."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.convert import pretrained
from codir_jax.convert.folder import model_folder
from codir_jax.convert.formats.contract import HUGGINGFACE, Answers
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.evaluation import next_tokens
from codir_jax.models.heads import build_model
from codir_jax.models.language_model import decoder
from codir_jax.models.products import product
from codir_jax.models.recurrence import zero_carry
from codir_jax.models.weights import transposed
from codir_jax.objectives.heads.language_model import LanguageModel as Head
from codir_jax.objectives.heads.language_model import cross_entropy
from codir_jax.predict import in_format
from codir_jax.predict.sentence_reader import SentenceReader, by_length, check_list, padded_length, padded_rows
from codir_jax.processes.user_error import UserError


class Score(NamedTuple):
    """How likely a sentence is.

    Attributes:
      log_score: ln P of its words and of its end, after the end of another sentence, nats.
      per_word: that divided by the words, the end counted as one: what sentences of two lengths are compared by.
      num_words: between white space, without the end.
      num_unknown: tokens that the vocabulary has not; their share of the score is that of "some rare word".
    """

    log_score: float
    per_word: float
    num_words: int
    num_unknown: int


def load(path: str, *, batch_size: int = 32, format: str = HUGGINGFACE) -> "LanguageModel":
    """The language model in a folder with config.json, model.safetensors and tokenizer files, or in a workdir.

    Args:
      batch_size: sentences that are run together.
      format: who computes: JAX, or the runtime of a format that the folder has, "onnx-int8".

    Raises:
      UserError: the folder is missing, damaged or has no language-model head.

    Example:
      >>> model = codir_jax.load("runs/small")
      >>> model.score(["the market fell"])[0].per_word
      >>> model.next_words("the market", 3)
    """
    folder = model_folder(path, "model")
    source = pretrained.load_trained(folder, "language_model")
    runtime = None if format == HUGGINGFACE else in_format.answers_of(folder, format)
    return LanguageModel(source, tokenizer_lib.load_tokenizer(folder, source.config.vocab_size), batch_size, runtime)


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """Scores sentences and tells next words.

    Attributes:
      source: the checkpoint. tokenizer: its tokenizer. batch_size: sentences run together.
      runtime: that computes; None: JAX.
    """

    source: pretrained.Pretrained
    tokenizer: Any
    batch_size: int
    runtime: Answers | None = None
    is_probability = True
    noise = None

    def faults(self, texts: Sequence[str]) -> list[tuple[int, str]]:
        """Of no sentence: it reads texts of any length."""
        return []

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a sentence, in order; white-space runs are one space, as in the text that was trained on."""
        check_list(texts)
        rows = [self._read(text) for text in texts]
        found: list[Score] = [Score(0.0, 0.0, 0, 0)] * len(rows)
        for part in by_length([len(ids) for ids, _, _ in rows], self.batch_size):
            nats = self._nats([rows[row][0] for row in part])
            for row, own in zip(part, nats, strict=True):
                _, words, unknown = rows[row]
                found[row] = Score(-float(own), -float(own) / words, words - 1, unknown)
        return found

    def next_words(self, prefix: str, k: int = 5) -> list[tuple[str, float]]:
        """The k likeliest entries of the vocabulary after the beginning of a sentence, with their probabilities.

        The end of the sentence and the unknown word are left out. An entry is a word, a piece or a character, as the
        tokenizer has them.
        """
        if k < 1:
            raise UserError(f"expected at least 1 next word, got k={k}")
        ids = self._read(prefix)[0][:-1]
        if prefix[-1:].isspace() and (space := self.tokenizer.get_vocab().get(" ")) is not None:
            ids = np.append(ids, np.int32(space))  # a character: the next one begins a word
        left_out = {self._eos, self._read.unk_token_id}
        probabilities = self._after(ids)
        best = np.argsort(-probabilities[: len(self.tokenizer)], kind="stable")
        best = [one for one in best if one not in left_out][:k]
        return [(self.tokenizer.decode([int(one)]).strip() or " ", float(probabilities[one])) for one in best]

    def _nats(self, rows: list[np.ndarray]) -> np.ndarray:
        """Of sentences with their ends, float32 [rows]."""
        num_rows = len(rows) if self.runtime else padded_rows(len(rows), self.batch_size)
        inputs, mask, next_ids = _padded([row[:-1] for row in rows], num_rows, self._eos, rows)
        if self.runtime:  # it compiles nothing: no padding behind the longest
            real = slice(mask.sum(1).max())
            found, _ = next_tokens.nats(self.step, inputs[:, real], next_ids[:, real], self.source.config.vocab_size)
            return (found * mask[:, real]).sum(1)
        return np.asarray(self._score(self._params, inputs, mask, next_ids))[: len(rows)]

    def step(self, input_ids: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        """(logits float32 [rows, n, vocab], the state after the last token): a text goes on token by token.

        Args:
          input_ids: int32 [rows, n]. state: of an earlier call; None: zeros, where a text begins.
        """
        if self.runtime:
            return self.runtime.step(input_ids, state)
        state = zero_carry(self.source.config, len(input_ids)) if state is None else state
        logits, state = self._step(self._params, input_ids, state)
        return np.asarray(logits), state

    def _after(self, ids: np.ndarray) -> np.ndarray:
        """Probabilities of the word after the beginning of a sentence, float32 [vocab]."""
        inputs, mask, _ = _padded([ids], 1, self._eos)
        if not self.runtime:
            return np.array(self._next(self._params, inputs, mask)[0])
        *_, (_, logits, _) = next_tokens.each_part(self.step, inputs[:, : len(ids) + 1], self.source.config.vocab_size)
        return np.exp(next_tokens.log_shares(logits[0, -1]))

    @functools.cached_property
    def _read(self) -> SentenceReader:
        return SentenceReader(self.tokenizer)

    @property
    def _eos(self) -> int:
        return self._read.eos_token_id

    @functools.cached_property
    def _params(self):
        return jax.device_put(self.source.params)

    @functools.cached_property
    def _module(self):
        return build_model(self.source.config, "language_model")

    @functools.cached_property
    def _score(self):
        head = Head()

        def score(params, inputs, mask, next_ids):
            batch = {"input_ids": inputs, "attention_mask": mask, "token_type_ids": inputs}
            output = head.run(self._module, params, batch)
            chunk_size = vocab_chunk_size(mask.size, self.source.config.vocab_size)
            return jnp.sum(cross_entropy(head.view(output.states, params), next_ids, chunk_size) * mask, axis=1)

        return jax.jit(score)

    @functools.cached_property
    def _step(self):
        head = Head()

        def step(params, inputs, carry):
            batch = {"input_ids": inputs, "attention_mask": inputs, "token_type_ids": inputs, "carry": carry}
            output = head.run(self._module, params, batch)
            return _logits(params, output.states), output.carry

        return jax.jit(step)

    @functools.cached_property
    def _next(self):
        head = Head()

        def after(params, inputs, mask):
            batch = {"input_ids": inputs, "attention_mask": mask, "token_type_ids": inputs}
            states = head.run(self._module, params, batch).states
            last = jnp.take_along_axis(states, mask.sum(1)[:, None, None] - 1, axis=1)[:, 0]
            return jax.nn.softmax(_logits(params, last))

        return jax.jit(after)


def _logits(params, states):
    """Of the next word, float32 [..., vocab], of states [..., hidden]."""
    table, bias = decoder(params)
    return product(states.astype(jnp.float32), transposed(table)) + bias


def vocab_chunk_size(num_tokens: int, vocab_size: int) -> int:
    """Words whose logits of so many tokens exist at a time; 0: all."""
    chunk_size = max(next_tokens.MAX_LOGITS // num_tokens, 1)
    return chunk_size if chunk_size < vocab_size else 0


def _padded(rows: list[np.ndarray], num_rows: int, eos: int, next_ids: list[np.ndarray] | None = None):
    """(input ids with the end of a sentence before each, mask, next ids), int32 [num_rows, a length of few]."""
    inputs = np.full((num_rows, padded_length(max(len(row) for row in rows) + 1)), eos, np.int32)
    mask, following = np.zeros_like(inputs), np.zeros_like(inputs)
    for place, row in enumerate(rows):
        inputs[place, 1 : len(row) + 1] = row
        mask[place, : len(row) + 1] = 1
        if next_ids is not None:
            following[place, : len(row) + 1] = next_ids[place]
    return inputs, mask, following
