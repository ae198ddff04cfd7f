"""The schema of a config: of every field its default, type, range and meaning, on one line beside each other.

    FIELDS = {"learning_rate": field(5e-5, "peak of the rate", above=0, at_most=1e3), "negatives": {...}}

A group of fields is a dict of names. `defaults` makes plain values of it, `faults` tells what in given values cannot
be, whether they come from a command line, a file or Python.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from codir_jax.processes import json_text
from codir_jax.processes.user_error import UserError

# jax.random.key takes 32 bits.
MAX_SEED = 2**32 - 1
MAX_STEPS = 1_000_000_000
MAX_TOLD, MAX_SHOWN = 20, 60
# A duration is given in one of these units, as NAME_steps, NAME_epochs or NAME_percent; the others are -1.
DURATION_UNITS = ("steps", "epochs", "percent")


class Field(NamedTuple):
    """One field.

    Attributes:
      default: its type is that of the field; an int is also a float, a bool is no int, a list is a tuple.
      help: what it is, in a few words.
      at_least, above, at_most, below: of a number; None: no limit. A number is always finite.
      words: of a text or a number: all that it may be; None: anything.
      also: numbers outside the range that mean something, such as -1 for "not given".
      each: of a tuple: what each element is.
      reads: raises `UserError` for a value that cannot be read, such as a text with a grammar of its own.
      binds: whether another value makes another result. A run may go on with other values of those that do not: where
        things are kept, how often they are written.
    """

    default: Any
    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    words: tuple | None = None
    also: tuple = ()
    each: "Field | None" = None
    reads: Callable[[Any], Any] | None = None
    binds: bool = True

    def expected(self) -> str:
        """What a value must be, in words."""
        if self.words is not None:
            return f"one of {', '.join(str(word) or repr(word) for word in self.words)}"
        if self.each is not None:
            return f"a list, each {self.each.expected()}"
        kind = type(self.default)
        text = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text"}[kind]
        return ", ".join([text, *self._limits()]) + "".join(f", or {_number(value)}" for value in self.also)

    def _limits(self) -> list[str]:
        """The range in words: at most one text."""
        if self.at_least is not None and self.at_most is not None:
            return [f"{_number(self.at_least)} to {_number(self.at_most)}"]
        low = [f"{_number(self.at_least)} or more"] if self.at_least is not None else []
        low += [f"above {_number(self.above)}"] if self.above is not None else []
        high = [f"at most {_number(self.at_most)}"] if self.at_most is not None else []
        high += [f"below {_number(self.below)}"] if self.below is not None else []
        return [" and ".join(low + high)] if low or high else []

    def fault(self, value: Any) -> str:
        """Why the value cannot be; "" if it can."""
        if not self._fits(value):
            return f"expected {self.expected()} ({self.help})"
        if self.reads is not None:
            try:
                self.reads(value)
            except UserError as error:
                return f"{error} ({self.help})"
        return ""

    def _fits(self, value: Any) -> bool:
        kind = type(self.default)
        if kind is tuple:
            return isinstance(value, (tuple, list)) and all(self.each.fault(one) == "" for one in value)
        if kind is float:
            fits = isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)
        else:
            fits = type(value) is kind
        if not fits:
            return False
        if self.words is not None:
            return value in self.words
        if kind is str:
            return _is_writable(value)
        return value in self.also or kind is bool or self._is_within(value)

    def _is_within(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


Fields = Mapping[str, "Field | Fields"]


def field(default: Any, help: str, **limits) -> Field:
    """A `Field`; `limits` are its other attributes.

    Raises:
      ValueError: the default is outside its own limits, or the type has no check.
    """
    made = Field(default, help, **limits)
    if type(default) not in (bool, int, float, str, tuple) or (type(default) is tuple and made.each is None):
        raise ValueError(f"a field of {default!r}: expected a bool, int, float, str, or a tuple with `each`")
    if fault := made.fault(default):
        raise ValueError(f"the default {default!r} is refused by its own field: {fault}")
    return made


def parse_joined(text: str, known: Sequence[str]) -> list[str]:
    """The words joined by +, for a field that `reads` several of them.

    Raises:
      UserError: one that is not known, or one twice.
    """
    words = text.split("+")
    if not set(words) <= set(known) or len(set(words)) < len(words):
        raise UserError(f"expected some of {', '.join(known)}, each once, joined by +")
    return words


def defaults(fields: Fields) -> dict[str, Any]:
    """The default of every field, a nested dict of plain values."""
    return {name: one.default if isinstance(one, Field) else defaults(one) for name, one in fields.items()}


def faults(fields: Fields, values: Any, prefix: str = "") -> list[str]:
    """One line for each value that cannot be, each unknown name and each that is missing.

    Args:
      values: a mapping, or a ConfigDict.
      prefix: of the keys that are told, such as "objective.".
    """
    if not hasattr(values, "items"):
        return [f"{prefix[:-1] or 'the config'}={_shown(values)}: expected a group of fields: {', '.join(fields)}"]
    given, found = dict(values.items()), []
    for name, value in given.items():
        if name not in fields:
            found.append(f"{prefix}{name}={_shown(value)}: no such field{_nearest(str(name), list(fields))}")
    for name, one in fields.items():
        key = f"{prefix}{name}"
        if name not in given:
            what = f"expected {one.expected()} ({one.help})" if isinstance(one, Field) else "a whole group"
            found.append(f"{key} is missing: {what}")
        elif not isinstance(one, Field):
            found += faults(one, given[name], f"{key}.")
        elif fault := one.fault(given[name]):
            found.append(f"{key}={_shown(given[name])}: {fault}")
    return found


def refuse(found: Sequence[str]) -> None:
    """Raises one `UserError` that lists all faults; none: nothing happens."""
    if not found:
        return
    if len(found) == 1:
        raise UserError(found[0])
    told = [*found[:MAX_TOLD], *([f"... and {len(found) - MAX_TOLD} more"] if len(found) > MAX_TOLD else [])]
    raise UserError(f"{len(found)} fields cannot be as they are:\n  " + "\n  ".join(told))


def check(fields: Fields, values: Any, group: str) -> None:
    """Refuses a group of values with faults.

    Args:
      group: its name, such as "objective".

    Raises:
      UserError: all faults.
    """
    refuse(faults(fields, values, f"{group}."))


def completed(fields: Fields, values: Mapping, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """(the values with what they lack, a line "key=default" for each that they lacked).

    For configs of before a field was there: it has its default. A unit of a duration that is not there is not given,
    -1. A group that is not there is not made up. Numbers and lists get the type that the field has.
    """
    whole, added = dict(values), []
    for name, one in fields.items():
        key = f"{prefix}{name}"
        if not isinstance(one, Field):
            if isinstance(values.get(name), Mapping):
                whole[name], lacked = completed(one, values[name], f"{key}.")
                added += lacked
        elif name in values:
            whole[name] = _typed(one, values[name])
        else:
            is_unit = name.rpartition("_")[2] in DURATION_UNITS and -1 in one.also
            whole[name] = type(one.default)(-1) if is_unit else one.default
            added.append(f"{key}={whole[name]!r}")
    return whole, added


def flat(fields: Fields, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """(dotted key, field) of every field."""
    for name, one in fields.items():
        if isinstance(one, Field):
            yield f"{prefix}{name}", one
        else:
            yield from flat(one, f"{prefix}{name}.")


def _typed(one: Field, value: Any) -> Any:
    if type(one.default) is float and type(value) is int:
        return float(value) if abs(value) < 1 << 53 else value
    return tuple(value) if type(one.default) is tuple and isinstance(value, list) else value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _is_writable(text: str) -> bool:
    """Whether a path or a line of JSON can hold it."""
    return "\0" not in text and json_text.is_unicode(text)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "(a number of thousands of digits)"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
