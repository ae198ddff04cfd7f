"""A model that scores whole sentences, ready to use; and what its scores are."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from codir_jax.convert import pretrained
from codir_jax.convert.folder import NOISE_FILE, find_folder, model_folder
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.ngram import NGram
from codir_jax.models.heads import build_model
from codir_jax.objectives.heads.sentence_score import sentence_scores
from codir_jax.predict.language_model import Score, vocab_chunk_size
from codir_jax.predict.sentence_reader import SentenceReader, by_length, check_list, padded_length, padded_rows
from codir_jax.processes.user_error import UserError
from codir_jax.tasks.sentences import log_normaliser


def load(path: str, *, batch_size: int = 32) -> "SentenceScorer":
    """The sentence scorer in a folder with config.json, model.safetensors, tokenizer files and noise.npz.

    Raises:
      UserError: the folder is missing, damaged, or without a sentence-score head.
    """
    folder = model_folder(path, "model")
    source = pretrained.load_trained(folder, "sentence_score")
    file = find_folder(folder) / NOISE_FILE
    if source.config.residual and not file.is_file():
        raise UserError(f"{path} has a residual score, and its noise model {NOISE_FILE} is missing; copy it there")
    noise = NGram.load(file) if file.is_file() else None
    return SentenceScorer(source, tokenizer_lib.load_tokenizer(folder, source.config.vocab_size), noise, batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceScorer:
    """Scores sentences.

    Attributes:
      source: the checkpoint. tokenizer: its tokenizer. noise: the n-gram model beside it, None where there is none.
      batch_size: sentences run together.
    """

    source: pretrained.Pretrained
    tokenizer: Any
    noise: NGram | None
    batch_size: int

    @property
    def is_probability(self) -> bool:
        """Whether exp of the scores sums to 1 over all sentences by construction."""
        return not (self.source.config.bidirectional or self.source.config.unnormalised)

    def faults(self, texts: Sequence[str]) -> list[tuple[int, str]]:
        """Of no sentence: it reads texts of any length."""
        return []

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a sentence, in order; white-space runs are one space.

        `log_score` is ln P of a normalised left-to-right model, and otherwise no log probability.
        """
        check_list(texts)
        encoded = [self._read(text) for text in texts]
        found = self._scores([ids[:-1] for ids, _, _ in encoded])
        return [
            Score(float(score), float(score) / words, words - 1, unknown)
            for score, (_, words, unknown) in zip(found, encoded, strict=True)
        ]

    def log_z(self, num: int = 2000, seed: int = 0) -> tuple[float, float]:
        """(ln Z, effective sample size): importance sampling with `num` sentences of the noise model.

        Raises:
          UserError: there is no noise model beside the weights.
        """
        if self.noise is None:
            raise UserError(f"ln Z is measured with {NOISE_FILE}, and there is none in {self.source.folder}")
        words, lengths = self.noise.sample(np.random.default_rng(seed).random((num, self.noise.max_words)))
        scores = self._scores([row[:length] for row, length in zip(words, lengths, strict=True)])
        return log_normaliser(scores - self.noise.log_q(words, lengths))

    def _scores(self, rows: list[np.ndarray]) -> np.ndarray:
        """s of word ids without their ends, float64 [n]; sentences of like lengths are run together."""
        found = np.zeros(len(rows))
        for part in by_length([len(row) for row in rows], self.batch_size):
            found[part] = self._of_part([rows[row] for row in part])
        return found

    def _of_part(self, rows):
        length = padded_length(max(len(row) for row in rows) + 1)
        eos, lengths = self._read.eos_token_id, np.array([len(row) for row in rows])
        num_rows = padded_rows(len(rows), self.batch_size)
        words = np.full((num_rows, 1, length - 1), eos, np.int32)
        mask = np.zeros((num_rows, 1, length), np.int32)
        for place, row in enumerate(rows):
            words[place, 0, : len(row)] = row
            mask[place, 0, : len(row) + 1] = 1
        end = np.full((num_rows, 1, 1), eos, np.int32)
        inputs = np.concatenate([end, words], axis=2)
        batch = {"input_ids": inputs, "attention_mask": mask, "token_type_ids": inputs * 0}
        batch["next_ids"] = np.concatenate([words, end], axis=2)
        found = np.asarray(self._run(self._params, batch), np.float64)[: len(rows), 0]
        return found + self._log_q(words[: len(rows), 0], lengths) if self.source.config.residual else found

    def _log_q(self, words, lengths):
        """ln q of sentences of any length: of one that the noise model never draws, what its n-grams give."""
        plain = self.noise.log_probs(words, lengths).sum(axis=1) - self.noise.log_not_empty
        drawn = self.noise.log_q(words, lengths)
        return np.where(np.isfinite(drawn), drawn, plain)

    @functools.cached_property
    def _read(self) -> SentenceReader:
        return SentenceReader(self.tokenizer)

    @functools.cached_property
    def _params(self):
        return jax.device_put(self.source.params)

    @functools.cached_property
    def _run(self):
        module, vocab_size = build_model(self.source.config, "sentence_score"), self.source.config.vocab_size

        def run(params, batch):
            chunk_size = vocab_chunk_size(batch["next_ids"].size, vocab_size)
            return sentence_scores(module, params, batch, chunk_size)

        return jax.jit(run)
