"""Sentences, one a line: models that give a whole sentence a score, judged on held-out ones and on noise.

A score is used to choose among candidates, so models are compared by that: `choice_accuracy` is how often a held-out
sentence has a higher score than all of its copies with other words (`data/sentences/candidates.py`), and
`ngram_choice_accuracy` is how often the noise model's ln q has. The noise-contrastive loss of s, `nce_loss`, is a
proper one for every score, smallest where s = ln P, so that normalised and unnormalised models stand side by side. ln Z
is estimated by importance sampling: Z = sum over W of exp s(W) = the mean of exp(s - ln q) over sentences drawn from q;
the effective sample size, (sum w)^2 / sum w^2, tells how many of them carry it.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert.folder import NOISE_FILE
from codir_jax.convert.labels import UNTOLD
from codir_jax.data.sentences import sentences as sentences_lib
from codir_jax.data.sentences import settings
from codir_jax.data.stream import stream
from codir_jax.evaluation.metrics import Metric
from codir_jax.losses.nce import nce
from codir_jax.objectives import contract as objectives
from codir_jax.objectives.heads.sentence_score import SentenceScore, sentence_scores
from codir_jax.objectives.sentence_nce import residual_noise
from codir_jax.processes.fields import Fields
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import placement, rules
from codir_jax.tasks.held_out import HeldOut
from codir_jax.tasks.language_model import fresh_tokenizer as fresh_tokenizer
from codir_jax.tasks.sentence_feed import SentenceFeed
from codir_jax.tasks.together import together

TEACHER = ("sentence model", "configs/nce_lm/train.py")
PLAIN_OBJECTIVE = "sentence_likelihood"


def data_fields() -> Fields:
    """The `data` section of sentences."""
    return settings.FIELDS


def check(config: ConfigDict) -> None:
    """Refuses what cannot be, before any text is opened."""
    settings.check(config.data)
    objectives.require_head(config.objective.name, "sentence_score")
    if config.student.residual and not config.student.unnormalised:
        raise UserError("student.residual=True is of unnormalised scores; set student.unnormalised=True too")
    if config.student.unnormalised and not config.data.num_noise:
        raise UserError("student.unnormalised=True is trained by noise, and data.num_noise is 0; 8 is usual")


def make(config: ConfigDict, tokenizer) -> "SentenceTask":
    """The task of a config; its text is read by `open`."""
    return SentenceTask(config, tokenizer)


class SentenceTask(HeldOut):
    """A `tasks.contract.Task` of sentences.

    Attributes:
      sentences: split -> sentences; {} before `open`. noise: the n-gram model of the train split, None before it.
      unigram: float64 [vocab], how frequent each token is in the train split; None before `open`.
      frequencies: the same of words: 0 for the end of a sentence, unknown words and other marks.
    """

    head, rows, has_fixed_inputs, labels = SentenceScore(), None, False, UNTOLD
    served_length = None

    def __init__(self, config: ConfigDict, tokenizer=None):
        self.config, self.tokenizer = config, tokenizer
        self.sentences, self.noise, self.unigram, self.frequencies = {}, None, None, None
        self._fingerprint, self._scorer = "", functools.cache(make_scorer)
        name = "nce_loss" if config.data.num_noise else "nats_per_token"
        self.metrics = (Metric(name, higher_is_better=False, unit=name),)
        if config.data.num_lists:
            self.metrics = (Metric("choice_accuracy"), *self.metrics)

    @property
    def splits(self) -> tuple[str, ...]:
        """Of the text that was opened."""
        return tuple(self.sentences)

    @property
    def fingerprint(self) -> str:
        """Of the streams that the sentences are cut from."""
        return self._fingerprint

    @property
    def typical_length(self) -> int:
        """Tokens of a text in a batch."""
        return self.config.data.max_length

    def open(self) -> None:
        """Reads the text, tokenised where that was not done before, and counts the noise model."""
        options = self.config.data
        streams = stream.load(settings.for_stream(options), self.tokenizer, together())
        self._fingerprint = streams.fingerprint
        closing = np.zeros(len(self.tokenizer), bool)
        if options.sentence_ends:
            ends = tuple(options.sentence_ends)
            closing[[number for word, number in self.tokenizer.get_vocab().items() if word.endswith(ends)]] = True
        self.sentences = {
            split: sentences_lib.of_stream(one, options.max_length - 1, split, closing)
            for split, one in streams.splits.items()
        }
        train = self.sentences["train"]
        if len(train) < options.batch_size:
            raise UserError(
                f"{len(train)} train sentences fill no batch of {options.batch_size}; lower data.batch_size"
            )
        sizes = (len(self.tokenizer), options.noise_order, options.noise_discount)
        self.noise = sentences_lib.noise_of(train, *sizes)
        # One more of each, so that no frequency is 0; padding behind a sentence is no end of it.
        inside = np.arange(train.words.shape[1]) < train.lengths[:, None]
        counts = 1.0 + np.bincount(train.words[inside], minlength=sizes[0])
        counts[train.end_id] += len(train)
        self.unigram = counts / counts.sum()
        self.frequencies = self.unigram.copy()
        self.frequencies[[train.end_id, *self.tokenizer.all_special_ids]] = 0.0
        if options.num_lists and (self.frequencies > 0).sum() < 2:
            raise UserError("the vocabulary has one word, so no sentence has a copy with another; set data.num_lists=0")

    def side_files(self) -> dict[str, Callable]:
        """What lies beside the weights of a saved model: its noise model, for ln Z and for residual scores."""
        return {NOISE_FILE: self.noise.save}

    def feed(self, sharding) -> SentenceFeed:
        """Its batches."""
        config = self.config
        reads_noise = getattr(objectives.objective_module(config.objective.name), "READS_NOISE", False)
        return SentenceFeed(
            splits=self.sentences,
            noise=self.noise,
            options=config.data,
            seed=config.seed,
            sharding=sharding,
            num_noise=config.data.num_noise if reads_noise else 0,
            frequencies=self.frequencies,
            num_microbatches=config.train.num_microbatches,
        )

    def check_checkpoint(self, source, path: str) -> None:
        """A score has no classes; its vocabulary is compared for every task."""

    def lacks_head(self) -> tuple[str, str]:
        """What another model lacks, and the config that trains it."""
        return "sentence-score head", TEACHER[1]

    def weakness(self, scores: Mapping[str, float], feed: SentenceFeed) -> str:
        """No teacher is asked for by any objective."""
        del scores, feed
        return ""

    def describe(self) -> str:
        """One line: sentences of each split, and what was left out."""
        told = [
            f"{split} {len(one):,} sentences" + (f" ({one.num_left_out:,} lines left out)" if one.num_left_out else "")
            for split, one in self.sentences.items()
        ]
        return f"text: {'; '.join(told)}; vocabulary {len(self.tokenizer):,}; noise of order {self.noise.order}"

    def facts(self) -> dict[str, Any]:
        """Sizes of the text."""
        return {
            "task": "sentences",
            "num_examples": {split: len(one) for split, one in self.sentences.items()},
            "vocab_size": len(self.tokenizer),
        }

    def _scores(self, feed, module, params, layout, split) -> dict[str, float]:
        scorer = self._scorer(module, layout)

        def of(batches) -> list[np.ndarray]:
            parts = [
                [placement.fetch(x) for x in scorer(params, batch)]
                for batch in placement.put_ahead(batches, feed.sharding)
            ]
            *columns, is_real = (np.concatenate(x) for x in zip(*parts, strict=True))
            return [column[is_real > 0] for column in columns]

        scores, losses, log_noise = of(feed.evaluation(split))
        found = told(scores, losses, log_noise, self.sentences[split], module.config.unnormalised)
        if not self.config.data.num_lists:
            return found
        scores, _, log_noise = of(feed.lists(split))
        return {"choice_accuracy": choice(scores), "ngram_choice_accuracy": choice(log_noise)} | found


def choice(scores: np.ndarray) -> float:
    """How often the first of a list is above all others: a share of float [lists, candidates]; NaN is above nothing."""
    return float((scores[:, :1] > scores[:, 1:]).all(axis=1).mean())


def told(scores, losses, log_noise, sentences, is_unnormalised: bool) -> dict[str, float]:
    """What is told of the scores of a split.

    Args:
      scores: s, float32 [n, 1 + k]. losses: float32 [n], where k > 0. log_noise: ln q, float32 [n, 1 + k].
      sentences: of the split.
    """
    found = {}
    if scores.shape[1] > 1:
        ratio = scores.astype(np.float64) - log_noise
        log_z, effective = log_normaliser(ratio[:, 1:].ravel())
        found = {"nce_loss": float(losses.mean()), "noise_accuracy": float((ratio[:, :1] > ratio[:, 1:]).mean())}
        found |= {"ln_z": log_z, "ln_z_effective_samples": effective}
    name = "score_per_token" if is_unnormalised else "nats_per_token"
    per_token = float(scores[:, 0].sum(dtype=np.float64) / (sentences.lengths + 1).sum())
    return found | {name: per_token if is_unnormalised else -per_token}


def log_normaliser(log_weights: np.ndarray) -> tuple[float, float]:
    """(ln Z, effective sample size) of importance weights ln w = s - ln q, float [n], of sentences drawn from q."""
    top = float(log_weights.max())
    weights = np.exp(log_weights - top)
    return top + math.log(weights.mean()), float(weights.sum() ** 2 / (weights**2).sum())


def make_scorer(module, layout):
    """A jitted (params, batch) -> (scores, losses, ln q, whether a row is real) of a model; ln q is in its scores."""

    def score(params, batch):
        with rules.on_mesh(*layout):
            scores = sentence_scores(module, params, batch)
            k = max(scores.shape[1] - 1, 1)
            losses = nce(scores, residual_noise(module, batch), k)
            if module.config.residual:
                scores = scores + batch["log_noise"]
            return scores, losses, batch["log_noise"], batch["example_mask"]

    return jax.jit(score)
