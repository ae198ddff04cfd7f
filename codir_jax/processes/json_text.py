"""JSON that somebody else wrote: one value, or one sentence about what is wrong with it."""

import json
from collections.abc import Sequence
from typing import Any


class JsonError(ValueError):
    """Text that is no JSON, or that is read wrongly; the message says why."""


def parse(text: str, *, allow_nan: bool = False) -> Any:
    """The value that a JSON text holds.

    Args:
      allow_nan: read NaN and Infinity, which Python writes and JSON has not; whoever asks looks at each number.

    Raises:
      JsonError: it is broken or nested too deeply, an object has a name twice, or a number is none of JSON or too long.
    """
    constant = {} if allow_nan else {"parse_constant": _refuse_constant}
    try:
        return json.loads(text, object_pairs_hook=_object, **constant)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        place = f" at line {error.lineno}, column {error.colno}" if error.lineno > 1 else f" at column {error.colno}"
        raise JsonError(f"broken JSON ({error.msg}{place})") from error
    except RecursionError as error:
        raise JsonError("JSON that is nested too deeply") from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise JsonError("a whole number of thousands of digits") from error


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON can hold half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"the name {twice!r} twice in one JSON object")
    return found


def _refuse_constant(name: str) -> None:
    raise JsonError(f"{name}, which is no JSON number")
