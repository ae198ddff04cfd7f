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
    """Yields the rows of batches of like lengths, at most `batch_size` of them, the short ones first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def padded_length(longest: int) -> int:
    """The length that sentences of at most `longest` tokens are padded to: of `LADDER`, beyond it a multiple."""
    return next((one for one in LADDER if one >= longest), -(-longest // LADDER[-1]) * LADDER[-1])
