"""One ml-collections config per stage: load, override, check, convert durations, save.

A config file is Python with `get_config(arg: str) -> ConfigDict`, addressed as `PATH[:ARG[,ARG...]]`; a saved
`config.json` is accepted in its place and repeats the run. Overrides (`--config.a.b=value`) go into a locked copy, so a
misspelt key fails at once and names the nearest one.
"""

import ast
import contextlib
import difflib
import importlib.util
import json
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax.processes.fields import DURATION_UNITS
from codir_jax.processes.user_error import MissingFileError, UserError


class UnknownArgumentError(UserError):
    """A word of a config argument, `word`, that is none of the `known` ones."""

    def __init__(self, word: str, known: tuple[str, ...]):
        super().__init__(f"unknown config argument {word!r}; known: {', '.join(sorted(known))}")
        self.word, self.known = word, known


def load(
    spec: str,
    overrides: Sequence[tuple[str, str]] = (),
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda saved: saved,
) -> ConfigDict:
    """The locked config of `spec` with `overrides` applied.

    Args:
      spec: `path/to/config.py`, `path/to/config.py:arg,arg` or `path/to/config.json`. A relative path is looked for
        in the working directory, then beside the configs that are shipped with the package.
      overrides: (dotted key, text) pairs, in order.
      complete: of what a saved config holds what it stands for today.

    Raises:
      MissingFileError: no such file. UserError: not a config, unknown argument, misspelt key or value of wrong type.
    """
    path_text, _, argument = spec.partition(":")
    path = find(path_text)
    if path.suffix == ".json":
        if argument:
            raise UserError(f"a saved config takes no argument, got {argument!r}; use --config.KEY=VALUE")
        saved = read_saved(path)
        try:
            values = complete(saved)
            config = ConfigDict(values)
        except (UserError, ValueError, AttributeError) as error:  # the last two: a field that cannot have that name
            raise UserError(f"{path}: {error}") from error
    else:
        config = ConfigDict(_made_by(path, argument))
    config.lock()
    for key, text in overrides:
        set_from_text(config, key, text)
    return config


def read_saved(path: Path) -> dict[str, Any]:
    """What a saved config holds: a JSON object.

    Raises:
      UserError: it is none; the message names the file.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no saved config: not valid JSON ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(saved, dict):
        raise UserError(f"{path} is no saved config: expected a JSON object, got {str(saved)[:40]!r}")
    return saved


def _made_by(path: Path, argument: str) -> dict[str, Any]:
    """What `get_config` of a file returns.

    Raises:
      UserError: of the file: what it raises itself, and what it returns instead of a ConfigDict.
    """
    get_config = function_of(path, "get_config")
    with _told_of(path):
        config = get_config(argument)
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: get_config returned {type(config).__name__}; expected an ml_collections ConfigDict")
    return config.to_dict()


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """What code of a config file raises inside, as a sentence of that file; a fault of the program keeps its kind."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if _is_ours(error):
            raise
        raise _raised(path, error) from error


def _is_ours(error: BaseException) -> bool:
    """Whether a file of this package raised it: a fault of the program keeps its traceback."""
    frames, package = traceback.extract_tb(error.__traceback__), Path(__file__).resolve().parent
    raised_in = Path(frames[-1].filename)
    return package in raised_in.parents and raised_in != Path(__file__) and package / "configs" not in raised_in.parents


def _raised(path: Path, error: BaseException) -> UserError:
    """What a config file raises, in a sentence with its line."""
    if isinstance(error, SyntaxError):
        line = error.lineno
    else:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = lines[-1] if lines else None
    where = f"{path}, line {line}" if line else str(path)
    return UserError(f"{where}: the config raises {type(error).__name__}: {error}")


def find(path_text: str) -> Path:
    """Path of a config file in the working directory or, failing that, among the shipped ones."""
    path = Path(path_text)
    relative = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    for candidate in (path, *(folder / relative for folder in shipped())):
        if candidate.is_file():
            return candidate
    raise MissingFileError(f"config {path_text!r} does not exist; expected a .py or .json file, see configs/README.md")


def shipped() -> tuple[Path, ...]:
    """Where the configs of the package may lie: installed, or in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "configs", package.parent / "configs"


def function_of(path: Path, name: str):
    """The function of that name that a file of `configs/` defines.

    Raises:
      UserError: it is no Python file, or defines none.
    """
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or path.suffix != ".py":
        raise UserError(f"config {path} must be a .py file with {name}(argument) or a saved config.json")
    module = importlib.util.module_from_spec(module_spec)
    with _told_of(path):
        module_spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise UserError(f"{path} defines no {name}(argument)")
    return getattr(module, name)


def parse_arguments(
    argument: str, known: Mapping[str, Any] | Sequence[str], *one_of: Mapping[str, Any] | Sequence[str]
) -> list[str]:
    """The comma-separated words of a config argument.

    Args:
      known: words that there are.
      one_of: groups of them of which an argument may have one word each.

    Raises:
      UserError: an unknown word, with the known ones, or two of a group.
    """
    words = [word for word in argument.split(",") if word]
    for word in words:
        if word not in known:
            raise UnknownArgumentError(word, tuple(known))
    for group in one_of:
        if len(given := [word for word in words if word in group]) > 1:
            raise UserError(f"config argument {argument!r} has {' and '.join(given)}; give one of {', '.join(group)}")
    return words


Overrides = Mapping[str, Any] | Sequence[tuple[str, Any]]


def as_texts(overrides: Overrides) -> list[tuple[str, str]]:
    """The (dotted key, text) pairs that `--config.KEY=VALUE` would give, of pairs or a mapping with any values.

    Raises:
      UserError: neither, or a key that is no text.
    """
    pairs = list(overrides.items() if isinstance(overrides, Mapping) else overrides or ())
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise UserError(f'overrides: expected {{"seed": 1}} or [("seed", 1)], got {pair!r}')
    return [(key, value if isinstance(value, str) else repr(value)) for key, value in pairs]


def set_from_text(config: ConfigDict, key: str, text: str) -> None:
    """Sets the dotted `key` from command-line text, keeping the type the default has.

    Setting one unit of a duration (`warmup_steps`) clears its other units (`warmup_epochs`, `warmup_percent`); setting
    it to -1 clears it alone.
    """
    node, parts = config, key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, ConfigDict) or part not in node:
            raise UserError(_unknown_key(config, key, node, part))
        if depth < len(parts) - 1:
            node = node[part]
    name = parts[-1]
    old = node[name]
    if isinstance(old, ConfigDict):
        raise UserError(f"--config.{key} is a group; set one of its fields: {', '.join(sorted(old))}")
    with node.ignore_type():
        node[name] = parse_value(key, text, old)
    for unit in DURATION_UNITS:
        if name.endswith(f"_{unit}") and node[name] >= 0:
            for other in DURATION_UNITS:
                sibling = name[: -len(unit)] + other
                if other != unit and sibling in node:
                    node[sibling] = -1 if other == "steps" else -1.0


def _unknown_key(config: ConfigDict, key: str, node: Any, part: str) -> str:
    every_key = list(_flatten(config.to_dict()))
    near = difflib.get_close_matches(key, every_key, n=1, cutoff=0.0)
    same_name = [k for k in every_key if k.split(".")[-1] == key.split(".")[-1]]
    suggestion = (same_name or near)[0]
    known = f"; known here: {', '.join(sorted(node))}" if isinstance(node, ConfigDict) else ""
    return f"unknown config key {key!r} (no {part!r}). Did you mean {suggestion!r}?{known}"


def _flatten(tree: Mapping, prefix: str = ""):
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def parse_value(key: str, text: str, old: Any) -> Any:
    """`text` as a value of the type of `old`."""
    expected = type(old).__name__
    try:
        if isinstance(old, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(old, int):
            return int(text.replace("_", ""))
        if isinstance(old, float):
            return float(text)
        if isinstance(old, (tuple, list)):
            value = ast.literal_eval(text)
            return tuple(value) if isinstance(value, (tuple, list)) else (value,)
        return text
    except (KeyError, ValueError, SyntaxError) as error:
        raise UserError(f"--config.{key} expects a {expected} such as {old!r}, got {text!r}") from error


def duration_steps(config: ConfigDict, name: str, *, steps_per_epoch: int, num_steps: int | None = None) -> int:
    """The duration `name` in steps, given in exactly one of `{name}_steps`, `{name}_epochs`, `{name}_percent`.

    A negative value means "not given". Percent is of `num_steps`, the whole run.

    Raises:
      UserError: none or several units are given, or percent is used where no run length is known.
    """
    fields = {unit: config[f"{name}_{unit}"] for unit in DURATION_UNITS if f"{name}_{unit}" in config}
    given = {unit: value for unit, value in fields.items() if value >= 0}
    if len(given) != 1:
        names = ", ".join(f"{name}_{unit}={value}" for unit, value in fields.items())
        raise UserError(f"exactly one unit must be non-negative, got {names}; set the others to -1")
    ((unit, value),) = given.items()
    if unit == "steps":
        return int(value)
    if unit == "epochs":
        return steps_of_epochs(value, steps_per_epoch)
    if num_steps is None:
        raise UserError(f"{name}_percent needs a run length")
    return round(value / 100 * num_steps)


def run_steps(train: ConfigDict, steps_per_epoch: int) -> int:
    """Steps of a run by its `train` section; of one in epochs at least `at_least_steps`."""
    num_steps = duration_steps(train, "total", steps_per_epoch=steps_per_epoch)
    if train.total_epochs >= 0:
        num_steps = max(num_steps, train.at_least_steps)
    return max(num_steps, 1)


def steps_of_epochs(epochs: float, steps_per_epoch: int) -> int:
    """Steps that hold so many epochs; what the product is above a whole number by rounding (0.07 of 100) is no step."""
    return math.ceil(epochs * steps_per_epoch * (1 - 1e-12))


def to_json(config: ConfigDict) -> str:
    """The resolved config as indented JSON with sorted keys; `load` reads it back to an equal config."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def differences(ours: ConfigDict | Mapping, theirs: ConfigDict | Mapping) -> list[str]:
    """One line for each key in which two configs differ, JSON types compared (a tuple equals a list)."""
    left, right = (dict(_items(json.loads(json.dumps(_plain(config))))) for config in (ours, theirs))
    missing = "(absent)"
    return [
        f"{key}: {left.get(key, missing)!r} here, {right.get(key, missing)!r} there"
        for key in sorted(left.keys() | right.keys())
        if left.get(key, missing) != right.get(key, missing)
    ]


def _plain(config: ConfigDict | Mapping) -> Mapping:
    return config.to_dict() if isinstance(config, ConfigDict) else config


def _items(tree: Mapping, prefix: str = ""):
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
