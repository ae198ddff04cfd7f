"""Sentences and their noise as batches on the mesh."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from codir_jax.data.batch import SENTENCE_COLUMNS, Batch, Column, empty, with_sizes
from codir_jax.data.ngram import NGram
from codir_jax.data.sentences import sentences as sentences_lib
from codir_jax.data.sentences.sentences import Sentences
from codir_jax.processes import distributed
from codir_jax.tasks.together import own_rows


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceFeed:
    """A `tasks.contract.Feed` of sentences.

    Attributes:
      splits: name -> sentences. noise: what noise is drawn from. options: `data` section. seed: of order and noise.
      sharding: of a batch on the mesh. num_noise: noise sentences of a row in training; those of held-out rows are of
        the options. frequencies: float64 [vocab] of the words of the train split; 0 for what is no word.
      num_microbatches: of a step.
    """

    splits: dict[str, Sentences]
    noise: NGram
    options: ConfigDict
    seed: int
    sharding: NamedSharding
    num_noise: int
    frequencies: np.ndarray
    num_microbatches: int = 1

    @property
    def length_buckets(self) -> tuple[int, ...]:
        """Tokens of a text in all batches: one number."""
        return (self.options.max_length,)

    @functools.cached_property
    def real_token_share(self) -> float:
        """Share of the positions of the first train batch that have a token."""
        (batch,) = self.train_on_host(0, 1, {})
        return float(batch["attention_mask"].sum() / batch.get("places", batch["input_ids"]).size)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the sentences that fill no batch are of another one, as the order is drawn anew."""
        return max(len(self.splits["train"]) // self.options.batch_size, 1)

    @property
    def num_train(self) -> int:
        """Sentences of the train split."""
        return len(self.splits["train"])

    @property
    def seen_tokens(self) -> None:
        """All rows of the word table are trained: a decoder that is tied to it has a gradient for every word."""

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of a batch."""
        return with_sizes(SENTENCE_COLUMNS, texts=1 + self.num_noise)

    def example(self) -> Batch:
        """A batch of zeros with the rows of all processes."""
        length = self.options.max_length
        return empty(SENTENCE_COLUMNS, self.options.batch_size, texts=1 + self.num_noise, length=length)

    def train_on_host(self, start_step: int, num_steps: int, columns: Mapping[str, Any]) -> Iterator[Batch]:
        """The same batches before they are put on the devices."""
        del columns  # nothing is kept of a teacher
        sizes = {"num_noise": self.num_noise, "batch_size": self.options.batch_size, "parts": self._parts}
        span = {"rows": own_rows(self.options.batch_size), "start": start_step, "stop": num_steps}
        return sentences_lib.train_batches(self.splits["train"], self.noise, seed=self.seed, **sizes, **span)

    def evaluation(self, split: str = "dev", rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Host batches of a split, every sentence once."""
        del rows
        sizes = {"num_noise": self.options.num_noise, "batch_size": self.options.batch_size, "parts": self._parts}
        return sentences_lib.held_out_batches(
            self.splits[split], self.noise, **sizes, rows=own_rows(self.options.batch_size)
        )

    def lists(self, split: str) -> Iterator[Batch]:
        """Host batches of lists to choose from, the sentence of the split first in each."""
        sizes = {"num_lists": self.options.num_lists, "batch_size": self.options.batch_size, "parts": self._parts}
        return sentences_lib.lists_to_choose_from(
            self.splits[split], self.noise, self.frequencies, **sizes, rows=own_rows(self.options.batch_size)
        )

    @property
    def _parts(self) -> int:
        """Parts of the lines of a batch; no process knows how long the noise of another one is."""
        if distributed.num_processes() > 1:
            return 0
        devices = self.sharding.mesh.size
        return devices // self.sharding.shard_shape((devices,))[0] * self.num_microbatches
