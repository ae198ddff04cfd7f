"""A finished model on the devices: tokenised texts in, one row of its answer a text out."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from codir_jax.data import pipeline
from codir_jax.data.length_buckets import ladder
from codir_jax.data.splits import Examples
from codir_jax.evaluation import runner
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules


@dataclasses.dataclass(frozen=True, eq=False)
class OnDevices:
    """The rows of a batch are split over all devices, the weights lie whole on each.

    Attributes:
      module: Linen module of `models.heads`. params: its weights, numpy.
      answer: the field of its output that is wanted, float [batch, ...].
      pad_token_id: of the tokenizer.
      max_length: tokens of a text at most.

    A `batch_size` is the number of texts that are run together at most; it is rounded up to a multiple of the devices.
    Fewer texts make a smaller batch, of a power of two: one text is not padded to 32, and few sizes are compiled.
    """

    module: Any
    params: Any
    answer: str
    pad_token_id: int
    max_length: int

    def all(self, examples: Examples, batch_size: int) -> np.ndarray:
        """The answers [n, ...] in the order of the examples, of which there is at least one."""
        forward, params, sharding = self._ready
        return runner.collect(forward, params, self._batches(examples, batch_size), len(examples), sharding)

    def each(self, examples: Examples, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (rows int32 [k], answers [k, ...]) of one batch after the other, shortest texts first."""
        forward, params, sharding = self._ready
        return runner.each_batch(forward, params, self._batches(examples, batch_size), len(examples), sharding)

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Compiles what batches of these sizes need, for every padded length."""
        for size, length in itertools.product(batch_sizes, ladder(self.max_length)):
            tokens, none = np.full(size * length, self.pad_token_id, np.int32), np.zeros(size, np.int32)
            offsets = np.arange(size + 1, dtype=np.int64) * length
            self.all(Examples(tokens, np.zeros(size * length, np.int8), offsets, none, none.astype(bool), none), size)

    def _batches(self, examples: Examples, batch_size: int):
        shards = rules.num_batch_shards(self._mesh)
        batch_size = min(batch_size, 1 << (len(examples) - 1).bit_length())
        return pipeline.eval_batches(
            examples,
            batch_size=-(-batch_size // shards) * shards,
            length_buckets=ladder(self.max_length),
            pad_token_id=self.pad_token_id,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    @functools.cached_property
    def _mesh(self):
        return mesh_lib.make_mesh(mesh_lib.default_config())

    @functools.cached_property
    def _ready(self):
        params = jax.device_put(self.params, rules.replicated(self._mesh))
        return runner.make_forward(self.module, self.answer), params, rules.batch_sharding(self._mesh)
