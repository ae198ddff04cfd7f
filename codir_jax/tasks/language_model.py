"""Running text in its order: language models that read from left to right, judged by their perplexity."""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert.labels import UNTOLD
from codir_jax.data.stream import batches, settings, stream
from codir_jax.data.stream.stream import Streams
from codir_jax.evaluation import next_tokens
from codir_jax.evaluation.metrics import Metric
from codir_jax.objectives import contract as objectives
from codir_jax.objectives.heads.language_model import LanguageModel as Head
from codir_jax.objectives.heads.language_model import cross_entropy
from codir_jax.objectives.language_model import carried, start
from codir_jax.processes.fields import Fields
from codir_jax.sharding import placement, rules
from codir_jax.tasks.held_out import HeldOut
from codir_jax.tasks.stream_feed import StreamFeed
from codir_jax.tasks.together import together

TEACHER = ("language model", "configs/rnn_lm/train.py")
PLAIN_OBJECTIVE = "language_model"
METRICS = (Metric("perplexity", higher_is_better=False, unit="perplexity"),)


def data_fields() -> Fields:
    """The `data` section of a stream."""
    return settings.FIELDS


def check(config: ConfigDict) -> None:
    """Refuses what cannot be, before any text is opened."""
    settings.check(config.data)
    objectives.require_head(config.objective.name, "language_model")


def fresh_tokenizer(config: ConfigDict):
    """A tokenizer of the words of embedded text; None where one must be named, or made by `codir tokenizer`."""
    from codir_jax.data import word_vocabulary
    from codir_jax.data.corpus import demo_text

    texts = demo_text.texts(config.data.sources)
    return None if texts is None else word_vocabulary.train_words(texts, vocab_size=10_000)


def make(config: ConfigDict, tokenizer) -> "LanguageModelling":
    """The task of a config; its text is tokenised by `open`."""
    return LanguageModelling(config, tokenizer)


class LanguageModelling(HeldOut):
    """A `tasks.contract.Task` of token streams.

    Attributes:
      streams: None before `open`. tokenizer: of the text.
    """

    head, metrics, rows, has_fixed_inputs, labels = Head(), METRICS, None, False, UNTOLD
    served_length = None

    def __init__(self, config: ConfigDict, tokenizer=None):
        self.config, self.tokenizer = config, tokenizer
        self.streams: Streams | None = None
        self._scorer = functools.cache(make_scorer)  # a model that is examined again is not compiled again

    @property
    def unigram(self) -> np.ndarray | None:
        """How frequent each token is in the train text, float64 [vocab], sums to 1; None before `open`.

        One more of each is counted, so that none is 0.
        """
        return None if self.streams is None or self.tokenizer is None else self._frequencies

    @functools.cached_property
    def _frequencies(self) -> np.ndarray:
        train, counts = self.streams.splits["train"], np.ones(len(self.tokenizer))
        for at in range(0, len(train), 1 << 20):
            counts += np.bincount(train.read(at, min(at + (1 << 20), len(train))), minlength=len(counts))
        return counts / counts.sum()

    @property
    def splits(self) -> tuple[str, ...]:
        """Of the text that was opened."""
        return tuple(self.streams.splits)

    @property
    def fingerprint(self) -> str:
        """Of the streams."""
        return self.streams.fingerprint if self.streams else ""

    @property
    def typical_length(self) -> int:
        """Tokens of a row in a batch."""
        return self.config.data.max_length

    def open(self) -> None:
        """Tokenises the text, where that was not done before; several processes share the work."""
        self.streams = stream.load(self.config.data, self.tokenizer, together())

    def feed(self, sharding) -> StreamFeed:
        """Its batches."""
        return StreamFeed(self.streams, self.config.data, sharding)

    def check_checkpoint(self, source, path: str) -> None:
        """A language model has no classes; its vocabulary is compared for every task."""

    def lacks_head(self) -> tuple[str, str]:
        """What another model lacks, and the config that trains it."""
        return "language-model head", TEACHER[1]

    def scores_of(self, split: str, answers: Any) -> dict[str, float]:
        """Metrics of a model that is run elsewhere: `answers.step`, of `convert.formats.contract`."""
        stream, options = self.streams.splits[split], self.config.data
        total, state = 0.0, None
        num_rows = min(options.eval_rows, len(stream))
        windows = batches.windows(stream, num_rows=num_rows, length=options.eval_length, rows=range(num_rows))
        for batch in windows:
            found, state = next_tokens.nats(
                answers.step, batch["input_ids"], batch["next_ids"], self.streams.vocab_size, state
            )
            total += float((found * batch["attention_mask"]).sum())
        return perplexities(total, stream.counts)

    def weakness(self, scores: Mapping[str, float], feed: StreamFeed) -> str:
        """No better than the frequencies of words would be: that of one word in so many."""
        if scores["perplexity"] < self.streams.vocab_size:
            return ""
        return f"has perplexity {scores['perplexity']:.1f}, no better than a choice of {self.streams.vocab_size} words"

    def describe(self) -> str:
        """One line: sizes of each split, and how much of them the vocabulary knows."""
        told = []
        for split, one in self.streams.splits.items():
            counts = one.counts
            unknown = (
                f", {counts['unknown'] / counts['tokens']:.1%} {self.streams.unk_token}" if counts["unknown"] else ""
            )
            told.append(f"{split} {counts['tokens']:,} tokens in {counts['lines']:,} lines{unknown}")
        return f"text: {'; '.join(told)}; vocabulary {self.streams.vocab_size:,}"

    def facts(self) -> dict[str, Any]:
        """Sizes of the text."""
        return {
            "task": "stream",
            "num_examples": {split: len(one) for split, one in self.streams.splits.items()},
            "text": {split: one.counts for split, one in self.streams.splits.items()},
            "vocab_size": self.streams.vocab_size,
        }

    def _scores(self, feed, module, params, layout, split) -> dict[str, float]:
        scorer = self._scorer(module, layout)
        nats, _ = total_nats(scorer, params, feed.evaluation(split), feed.sharding)
        return perplexities(nats, self.streams.splits[split].counts)


def perplexities(nats: float, counts: Mapping[str, int]) -> dict[str, float]:
    """Scores of a text that costs so many nats.

    Args:
      counts: of a `data.stream` text: tokens, words and characters, each line's end counted as one of all three.

    Returns:
      perplexity (per token: exp(nats / tokens)), word_perplexity, bits_per_character, nats_per_token, tokens_scored.
    """
    return {
        "perplexity": math.exp(min(nats / counts["tokens"], 700.0)),
        "word_perplexity": math.exp(min(nats / counts["words"], 700.0)),
        "bits_per_character": nats / counts["characters"] / math.log(2),
        "nats_per_token": nats / counts["tokens"],
        "tokens_scored": counts["tokens"],
    }


def total_nats(scorer, params, batches: Iterable, sharding) -> tuple[float, int]:
    """(nats, tokens) of a stream in batches, its state carried from batch to batch; of `make_scorer`."""
    carry, sums = None, []
    for batch in placement.put_ahead(batches, sharding):
        found, carry = scorer(params, carry, batch)
        sums.append(found)
    sums = np.asarray(jax.device_get(sums), np.float64).sum(axis=0)
    return float(sums[0]), int(sums[1])


def make_scorer(module, layout):
    """A jitted (params, carry, batch) -> ((nats, tokens), carry) of a language model; carry None: a text begins."""
    head = Head()

    def score(params, carry, batch):
        with rules.on_mesh(*layout):
            before = start(module, batch) if carry is None else carried(carry, batch)
            output = head.run(module, params, {**batch, "carry": before})
            nats = cross_entropy(head.view(output.states, params), batch["next_ids"])
            mask = batch["attention_mask"]
            return (jnp.sum(nats * mask), jnp.sum(mask.astype(jnp.float32))), output.carry

    return jax.jit(score)
