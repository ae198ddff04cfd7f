"""A corpus as batches on the mesh."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from codir_jax.data.batch import MASKED_LM_COLUMNS, Batch, Column, with_sizes
from codir_jax.data.corpus import batches as corpus_batches
from codir_jax.data.corpus.corpus import Corpus
from codir_jax.processes import distributed
from codir_jax.sharding import placement

_CHUNKS_COUNTED = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class CorpusFeed:
    """A `tasks.contract.Feed` of a corpus, as the `data` section of the config wants it.

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

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of a batch; its padded length goes by its name."""
        return with_sizes(MASKED_LM_COLUMNS, slots=self.corpus.splits["train"].num_masked_max)

    @property
    def seen_tokens(self) -> None:
        """Any token may stand in a masked place."""

    def example(self) -> Batch:
        """A host batch, for its shapes."""
        return next(self.evaluation("dev"))

    def train_on_host(self, start_step: int, num_steps: int, columns: Mapping[str, Any]) -> Iterator[Batch]:
        """The same batches before they are put on the devices."""
        del columns  # nothing is kept of a teacher whose texts are masked anew in every epoch
        return corpus_batches.train_batches(
            self.corpus, self.options, seed=self.seed, start_step=start_step, num_steps=num_steps, **_processes()
        )

    def evaluation(self, split: str = "dev", rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Host batches of the chunks of a split, with the same masks in every run."""
        return corpus_batches.eval_batches(self.corpus, split, self.options, rows=rows, **_processes())

    def means(self, evaluate, params, frozen) -> dict[str, float]:
        """The metrics of `masked_lm.make_evaluation` over all held-out chunks."""
        batches = placement.put_ahead(self.evaluation("dev"), self.sharding)
        found = jax.device_get([evaluate(params, frozen, batch) for batch in batches])
        sums = {name: np.sum([np.asarray(each[name], np.float64) for each in found], axis=0) for name in found[0]}
        return {name: float(total / count) for name, (total, count) in sums.items() if count > 0}

    def loss_of_frequencies(self) -> float:
        """Nats a masked token of the held-out chunks that the frequencies of words in the train chunks lose.

        A model above it knows nothing of the context of a word. Of up to 4,096 chunks, evenly spread; every word is
        counted once more than it was seen.
        """
        train = self.corpus.splits["train"]
        rows = np.linspace(0, len(train) - 1, min(len(train), _CHUNKS_COUNTED), dtype=np.int64)
        counts = np.bincount(np.concatenate(train.tokens(rows)), minlength=self.corpus.info.vocab_size) + 1.0
        counts[self.corpus.masking.is_special] = 0.0
        batches = corpus_batches.eval_batches(self.corpus, "dev", self.options)
        labels = np.concatenate([batch["masked_labels"][batch["masked_weights"] > 0] for batch in batches])
        return float(np.log(counts.sum()) - np.mean(np.log(counts[labels])))


def _processes() -> dict[str, int]:
    return {"process_index": distributed.process_id(), "process_count": distributed.num_processes()}
