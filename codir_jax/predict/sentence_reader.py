"""Sentences as a language model reads them: ids, words, unknown tokens; batches of like lengths."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.data.corpus.shards import backend_of
from codir_jax.data.length_buckets import LADDER
from codir_jax.data.stream import shards
from codir_jax.processes.user_error import UserError

# Of a batch of sentences, padding included: their states and logits are in memory at once.
MAX_TOKENS = 1 << 12


class SentenceReader:
    """Reads sentences as the text that a model was trained on: white-space runs are one space.

    Attributes:
      eos_token_id: of the end of a sentence. unk_token_id: of a word that the vocabulary has not, -1 without one.
    """

    def __init__(self, tokenizer: Any):
        unknown = tokenizer.unk_token_id
        self.unk_token_id = -1 if unknown is None else int(unknown)
        self.eos_token_id = shards.eos_token_id(tokenizer)
        state = tokenizer_lib.state(tokenizer)
        self._reading = shards.Reading(state, self.eos_token_id, self.unk_token_id, "<u4", "text", True)

    def __call__(self, text: str) -> tuple[np.ndarray, int, int]:
        """(ids with the end, int32; words, the end counted as one; unknown tokens).

        Raises:
          UserError: it is no text, or holds NUL.
        """
        if not isinstance(text, str) or "\0" in text:
            raise UserError(f"expected a sentence, got {text!r}")
        ids, counts = shards.encode_lines(self._backend, [" ".join(text.split())], self._reading)
        return ids.astype(np.int32), int(counts[0, 1]), int(counts[0, 3])

    @functools.cached_property
    def _backend(self):
        return backend_of(self._reading.tokenizer)


def check_list(texts: Any) -> None:
    """Refuses one string in the place of a list, which would be read letter by letter."""
    if isinstance(texts, str):
        raise UserError("expected a list of sentences, got one string; write [text]")


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yields the rows of batches of like lengths, at most `batch_size` of them, the short ones first.

    Of long sentences fewer are run together, down to one, so that padded they have at most `MAX_TOKENS` tokens.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        size = batch_size
        while size > 1 and size * padded_length(lengths[order[start : start + size][-1]] + 1) > MAX_TOKENS:
            size //= 2
        yield order[start : start + size]
        start += size


def padded_rows(num: int, batch_size: int) -> int:
    """The rows that `num` sentences are padded to: a power of two, so that few sizes are compiled."""
    return min(1 << (num - 1).bit_length(), batch_size)


def padded_length(longest: int) -> int:
    """The length that sentences of at most `longest` tokens are padded to: of `LADDER`, beyond it a multiple."""
    return next((one for one in LADDER if one >= longest), -(-longest // LADDER[-1]) * LADDER[-1])
