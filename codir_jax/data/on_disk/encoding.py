"""How texts become tokens, as something that other processes can be sent."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os

from codir_jax.data import tokenizer as tokenizer_lib


@dataclasses.dataclass(frozen=True)
class Encoding:
    """All that the tokens of a text depend on.

    Attributes:
      state: of `tokenizer.state`. truncation_side: "left" or "right", where what is too long is cut.
      has_types: the model knows token types. max_length: tokens of an example at most, specials included.
      dtype: that holds every id, "<u2" or "<u4". version: of the library.
    """

    state: str
    truncation_side: str
    has_types: bool
    max_length: int
    dtype: str
    version: str

    def encode(self, texts_a, texts_b):
        """Returns what `tokenizer.encode_by` returns of the same texts."""
        backend = _backend(self.state)
        return tokenizer_lib.encode_by(backend, texts_a, texts_b, self.max_length, self.truncation_side, self.has_types)


def encoding_of(tokenizer, max_length: int, *, is_pair: bool) -> Encoding:
    """Returns the Encoding of a fast transformers tokenizer.

    Raises:
      UserError: max_length leaves no room for text.
    """
    tokenizer_lib.check_room(tokenizer, max_length, is_pair=is_pair)
    return Encoding(
        state=tokenizer_lib.state(tokenizer),
        truncation_side=tokenizer.truncation_side,
        has_types="token_type_ids" in tokenizer.model_input_names,
        max_length=max_length,
        dtype="<u2" if max(tokenizer.get_vocab().values()) < 1 << 16 else "<u4",
        version=importlib.metadata.version("tokenizers"),
    )


@functools.lru_cache(maxsize=1)
def _backend(state: str):
    # One thread a process: the processes are the parallelism.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    return Tokenizer.from_str(state)
