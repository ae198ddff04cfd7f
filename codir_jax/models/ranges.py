"""What a number of a model's config may be: checked the same way for a config.json and for sizes given in a config."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from codir_jax.processes.user_error import UserError

# Ids of tokens are int32, and so are the sizes of a table that they index.
LARGEST = (1 << 31) - 1
# Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers" (arXiv 2203.00555), is the deepest that is published.
MOST_LAYERS = 1000


class Range(NamedTuple):
    """A number that is at least `least` and at most `most`, or below it where that is said."""

    least: float
    most: float
    is_whole: bool = True
    is_below: bool = False

    @property
    def in_words(self) -> str:
        """Such as "a whole number, 1 to 1000"."""
        if self.is_whole:
            return f"a whole number, {self.least:g} to {self.most:.0f}"
        return f"a number, {self.least:g} to {'below ' if self.is_below else ''}{self.most:g}"

    def check(self, name: str, value: Any) -> int | float:
        """The value as int or float.

        Raises:
            UserError: it is another type, not finite, or outside.
        """
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_inside = is_number and self.least <= value <= self.most and not (self.is_below and value == self.most)
        if not is_inside or (self.is_whole and value != math.floor(value)):
            given = repr(value)
            raise UserError(
                f"{name}: expected {self.in_words}, got {given if len(given) < 60 else f'{given[:60]} ...'}"
            )
        return int(value) if self.is_whole else float(value)


SIZE = Range(1, LARGEST)
LAYERS = Range(1, MOST_LAYERS)
ID = Range(0, LARGEST)
RATE = Range(0, 1, is_whole=False, is_below=True)
EPSILON = Range(0, 1, is_whole=False, is_below=True)
SPREAD = Range(0, 1e3, is_whole=False)
