"""Token streams as batches on the mesh."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from codir_jax.data.batch import LANGUAGE_MODEL_COLUMNS, Batch, Column, empty, with_sizes
from codir_jax.data.stream import batches as stream_batches
from codir_jax.data.stream.stream import Stream, Streams
from codir_jax.tasks.together import own_rows


@dataclasses.dataclass(frozen=True, eq=False)
class StreamFeed:
    """A `tasks.contract.Feed` of streams, as the `data` section of the config wants it.

    Attributes:
      streams: of the text. options: `data` section. sharding: of a batch on the mesh.
    """

    streams: Streams
    options: ConfigDict
    sharding: NamedSharding

    @property
    def length_buckets(self) -> tuple[int, ...]:
        """Tokens of a row in all batches: one number."""
        return (self.options.max_length,)

    @property
    def real_token_share(self) -> float:
        """Share of the positions of an epoch's train batches that have a token."""
        positions = self.steps_per_epoch * self.options.batch_size * self.options.max_length
        return len(self.streams.splits["train"]) / positions

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        train = self.streams.splits["train"]
        return stream_batches.num_windows(len(train), self.options.batch_size, self.options.max_length)

    @property
    def num_train(self) -> int:
        """Windows of the train split."""
        return self.steps_per_epoch * self.options.batch_size

    @property
    def seen_tokens(self) -> None:
        """All rows of the word table are trained: a decoder that is tied to it has a gradient for every word."""

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of a batch."""
        return with_sizes(LANGUAGE_MODEL_COLUMNS)

    def example(self) -> Batch:
        """A batch of zeros with the rows of all processes, each of which has a state."""
        return empty(LANGUAGE_MODEL_COLUMNS, self.options.batch_size, length=self.options.max_length)

    def train_on_host(self, start_step: int, num_steps: int, columns: Mapping[str, Any]) -> Iterator[Batch]:
        """The same batches before they are put on the devices."""
        del columns  # nothing is kept of a teacher
        size = self.options.batch_size
        rows = {"num_rows": size, "rows": own_rows(size)}
        train = self.streams.splits["train"]
        return stream_batches.windows(train, length=self.options.max_length, start=start_step, stop=num_steps, **rows)

    def evaluation(self, split: str = "dev", rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """Host batches of a split, every token once; rows that the devices need beside `eval_rows` are padding."""
        del rows
        return self.windows(self.streams.splits[split])

    def windows(self, stream: Stream) -> Iterator[Batch]:
        """Host batches of a stream, as `evaluation` gives them."""
        num_rows = min(self.options.eval_rows, len(stream))
        rows = own_rows(self.padded_rows(num_rows))
        return stream_batches.windows(stream, num_rows=num_rows, length=self.options.eval_length, rows=rows)

    def padded_rows(self, num_rows: int) -> int:
        """The least rows from `num_rows` on that all devices can share."""
        devices = len(self.sharding.device_set)
        return -(-num_rows // devices) * devices
