"""Labelled texts as batches on the mesh."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from codir_jax.config import run_steps
from codir_jax.data import epoch_order, length_buckets, pipeline
from codir_jax.data.batch import Batch, Column
from codir_jax.data.splits import Dataset, columns_of
from codir_jax.evaluation import runner
from codir_jax.processes import distributed


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledFeed:
    """A `tasks.contract.Feed` of a dataset, as the `data` section of the config wants it.

    Attributes:
      data: tokenised splits. options: `data` section. seed: of the order. sharding: of a batch on the mesh.
      train: `train` section, for the length of the run.
    """

    data: Dataset
    options: ConfigDict
    seed: int
    sharding: NamedSharding
    train: ConfigDict

    @functools.cached_property
    def length_buckets(self) -> tuple[int, ...]:
        """Padded lengths of all batches."""
        options = self.options
        return pipeline.choose_length_buckets(
            self.data.splits,
            num_buckets=options.num_length_buckets,
            max_length=options.max_length,
            batch_size=options.batch_size,
            window=options.bucket_window,
            num_steps=run_steps(self.train, self.steps_per_epoch) if "train" in self.data.splits else 1,
            compilation=length_buckets.compilation(self.sharding.mesh.devices.flat[0].platform),
        )

    @functools.cached_property
    def real_token_share(self) -> float:
        """Share of real tokens among the positions of the train batches."""
        return pipeline.real_token_share(
            self.data.splits["train"],
            batch_size=self.options.batch_size,
            length_buckets=self.length_buckets,
            seed=self.seed,
            window=self.options.bucket_window,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return epoch_order.num_batches_per_epoch(self.num_train, self.options.batch_size)

    @property
    def num_train(self) -> int:
        """Examples of the train split."""
        return len(self.data.splits["train"])

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of a batch; its padded length goes by its name."""
        return columns_of(self.data.splits["train"])

    @property
    def seen_tokens(self) -> np.ndarray | None:
        """Token ids of the train split, but for padding; None where they are not known."""
        return self.data.splits["train"].seen_tokens

    def example(self) -> Batch:
        """A host batch, for its shapes."""
        return next(self.evaluation("train"))

    def train_on_host(self, start_step: int, num_steps: int, columns: Mapping[str, Any]) -> Iterator[Batch]:
        """Host batches of steps start_step .. num_steps - 1; `columns` as in `pipeline.train_batches`."""
        return pipeline.train_batches(
            self.data.splits["train"],
            **self._shapes(),
            batch_size=self.options.batch_size,
            seed=self.seed,
            window=self.options.bucket_window,
            start_step=start_step,
            num_steps=num_steps,
            columns=columns,
        )

    def evaluation(self, split: str, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Host batches of the split, or of some of its rows, each example once."""
        examples, at_most = self.data.splits[split], self.options.eval_batch_size
        num_shards = at_most // self.sharding.shard_shape((at_most,))[0]
        num_rows = len(examples) if rows is None else len(rows)
        size = pipeline.even_batch_size(num_rows, at_most, num_shards)
        return pipeline.eval_batches(examples, **self._shapes(), batch_size=size, rows=rows)

    def collect(self, forward, params, split: str):
        """What `forward(params, batch)` returns for every example of the split; see `runner.collect`."""
        return runner.collect(forward, params, self.evaluation(split), len(self.data.splits[split]), self.sharding)

    def collect_rows(self, forward, params, split: str, rows: Sequence[int]):
        """Similarly for some of its rows, in their order."""
        found = runner.collect(
            forward, params, self.evaluation(split, rows), len(self.data.splits[split]), self.sharding
        )
        return jax.tree.map(lambda values: values[np.asarray(rows)], found)

    def _shapes(self) -> dict[str, Any]:
        return {
            "length_buckets": self.length_buckets,
            "pad_token_id": self.data.pad_token_id,
            "process_index": distributed.process_id(),
            "process_count": distributed.num_processes(),
        }
