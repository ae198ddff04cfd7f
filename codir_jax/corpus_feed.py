"""A corpus as batches on the mesh."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from codir_jax import distributed
from codir_jax.data.batch import Batch
from codir_jax.data.corpus import batches as corpus_batches
from codir_jax.data.corpus.corpus import Corpus
from codir_jax.sharding import placement


@dataclasses.dataclass(frozen=True, eq=False)
class CorpusFeed:
    """Batches of a corpus as the `data` section of the config wants them; `feed.Feed` is that of labelled data.

    Attributes:
      corpus: chunks of text. options: `data` section. seed: of order and masks. sharding: of a batch on the mesh.
    """

    corpus: Corpus
    options: ConfigDict
    seed: int
    sharding: NamedSharding

    @property
    def length_buckets(self) -> tuple[int, ...]:
        """Padded lengths of all batches: one."""
        return (self.options.max_length,)

    @functools.cached_property
    def real_token_share(self) -> float:
        """Share of real tokens among the positions of the train chunks."""
        return corpus_batches.real_token_share(self.corpus)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, weights of the sources counted in."""
        return corpus_batches.steps_per_epoch(self.corpus, self.options)

    @property
    def num_train(self) -> int:
        """Chunks of the train split."""
        return len(self.corpus.splits["train"])

    def example(self) -> Batch:
        """A host batch, for its shapes."""
        return next(self.evaluation())

    def train(self, start_step: int, num_steps: int, extra: Mapping[str, Any]) -> Iterator[dict[str, jax.Array]]:
        """Device batches of steps start_step .. num_steps - 1."""
        return placement.put_ahead(self.train_on_host(start_step, num_steps, extra), self.sharding)

    def train_on_host(self, start_step: int, num_steps: int, extra: Mapping[str, Any]) -> Iterator[Batch]:
        """The same batches before they are put on the devices."""
        del extra  # nothing is kept of a teacher whose texts are masked anew in every epoch
        return corpus_batches.train_batches(
            self.corpus, self.options, seed=self.seed, start_step=start_step, num_steps=num_steps, **_processes()
        )

    def evaluation(self) -> Iterator[Batch]:
        """Host batches of the held-out chunks, with the same masks in every run."""
        return corpus_batches.eval_batches(self.corpus, "dev", self.options, **_processes())

    def means(self, evaluate, params, frozen) -> dict[str, float]:
        """The metrics of `pretraining.make_evaluation` over all held-out chunks."""
        batches = placement.put_ahead(self.evaluation(), self.sharding)
        found = jax.device_get([evaluate(params, frozen, batch) for batch in batches])
        sums = {name: np.sum([np.asarray(each[name], np.float64) for each in found], axis=0) for name in found[0]}
        return {name: float(total / count) for name, (total, count) in sums.items() if count > 0}

    def entropy_of_masked(self) -> float:
        """Nats of the frequencies of the words that are masked in the held-out chunks.

        No constant answer loses less, so a model above it knows nothing of its context.
        """
        batches = corpus_batches.eval_batches(self.corpus, "dev", self.options)
        labels = np.concatenate([batch["masked_labels"][batch["masked_weights"] > 0] for batch in batches])
        shares = np.unique(labels, return_counts=True)[1] / len(labels)
        return -math.fsum(shares * np.log(shares))


def _processes() -> dict[str, int]:
    return {"process_index": distributed.process_id(), "process_count": distributed.num_processes()}
