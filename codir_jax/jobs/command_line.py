"""The command that repeats a job, of the arguments of the function that ran it."""

import inspect
import shlex
from collections.abc import Callable, Mapping
from typing import Any

# Argument of overrides -> how its flags begin.
_OVERRIDES = {"overrides": "config", "teacher_overrides": "teacher_config"}
_PLAIN = (str, int, float)


def command_of(verb: str, function: Callable, arguments: Mapping[str, Any]) -> str:
    """`codir VERB --FLAG=VALUE ...`: those arguments of `function` that are not its defaults.

    What no flag can say, such as rows in memory, is told in its place.
    """
    words = []
    for name, parameter in inspect.signature(function).parameters.items():
        value = arguments[name]
        if name in _OVERRIDES:
            words += [f"--{_OVERRIDES[name]}.{key}={text}" for key, text in value]
        elif value is True:
            words.append(f"--{name}")
        elif isinstance(value, _PLAIN) and not isinstance(value, bool):
            words += [f"--{name}={value}"] if value != parameter.default and value != "" else []
        elif isinstance(value, list | tuple) and all(isinstance(part, _PLAIN) for part in value):
            words += [f"--{name}={','.join(map(str, value))}"] if value else []
        elif value is not None and value is not False and not callable(value):
            words.append(f"--{name}=(a {type(value).__name__} in memory)")
    return f"codir {verb} {shlex.join(words)}"
