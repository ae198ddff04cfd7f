"""What a data set is: one file of this folder, found by `data.name`. A new one is added by its file alone.

Its module defines

    read(options) -> RawData           texts, labels and further columns, already validated

and may define

    NAMES: tuple[str, ...]             names that it serves; without it, the name of its file
    CONFIG_ARGUMENT: str               what the configs' argument calls it, where that is not its name
    FIELDS: dict[str, Field]           fields that only this set reads (processes/fields.py); all stages have them
    check(options)                     refuses what in the config cannot be, before a file is opened
    fresh_tokenizer(options)           a tokenizer trained on the set's own texts, where none is named
    unread(options)                    -> Unread, where reading would be a download and no plan needs one; else None
    TASK: str                          the task that it is for, where that is not "classification"
    train_file(options)                path of the train table, None where it has none: a large one is read in parts
    stream(options)                    where there is one: (what `on_disk.tables.parts` reads of it, what makes the
                                       other splits)
    scored(options)                    of "sentence_embedding": name -> rows of two texts apart and a score, by which a
                                       sentence encoder is judged; `read` has the train split only

`options` is the `data` section of a config (data/settings.py). Texts without labels, the draw of a subset and the
tokens are the same for all sets: data/dataset.py.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from codir_jax.data.splits import RawSplit
from codir_jax.processes import by_name
from codir_jax.processes.fields import Field
from codir_jax.processes.user_error import UserError

_PACKAGE = "codir_jax.data.sets"


class RawData(NamedTuple):
    """What a data set holds before it is tokenised.

    Attributes:
      splits: "train", "dev", "test", ... -> rows. "unlabelled" is reserved for `data.unlabelled_path`.
      label_names: of the classes in the order of their numbers; () for a regression.
      is_regression: labels are float targets.
      metrics: names, the primary one first.
      is_multi_label: a text has any number of classes.
    """

    splits: dict[str, RawSplit]
    label_names: tuple[str, ...]
    is_regression: bool
    metrics: tuple[str, ...]
    is_multi_label: bool = False


class Unread(NamedTuple):
    """What is known of a train set that is not on this machine.

    Attributes:
      num_train: examples. num_classes: 1 for a regression. is_regression: labels are float targets.
    """

    num_train: int
    num_classes: int
    is_regression: bool


def sets() -> dict[str, ModuleType]:
    """Returns every name that `data.name` may have -> the module that serves it.

    Raises:
      ValueError: two modules serve one name.
    """
    found: dict[str, ModuleType] = {}
    for file_name, module in by_name.modules(_PACKAGE, ("read",)).items():
        for name in getattr(module, "NAMES", (file_name,)):
            if name in found:
                raise ValueError(f"two data sets are called {name!r}: {found[name].__file__} and {module.__file__}")
            found[name] = module
    return found


def find(name: str) -> ModuleType:
    """Returns the module of the data set.

    Raises:
      UserError: there is none; the known names are listed.
    """
    found = sets()
    if name not in found:
        raise UserError(f"data.name={name!r}; known: {', '.join(found)}")
    return found[name]


def fields() -> dict[str, Field]:
    """Returns the fields of all data sets together.

    Raises:
      ValueError: two sets define a field of the same name.
    """
    found, owner = {}, {}
    for module in by_name.modules(_PACKAGE, ("read", "FIELDS")).values():
        for name in module.FIELDS:
            if name in owner:
                raise ValueError(f"two data sets define data.{name}: {owner[name]} and {module.__file__}")
            owner[name] = module.__file__
        found |= module.FIELDS
    return found


def check(options) -> None:
    """Refuses an unknown name, and what the set itself refuses, before a file is opened."""
    module = find(options.name)
    if hasattr(module, "check"):
        module.check(options)


def require_task(name: str, task: str) -> None:
    """Refuses a data set that is for another task, with those that are for this one.

    Raises:
      UserError: also where there is no such set.
    """
    if _task_of(find(name)) != task:
        fitting = ", ".join(other for other, module in sets().items() if _task_of(module) == task)
        raise UserError(f"data.name={name!r} is for the task {_task_of(find(name))!r}; for {task!r} use {fitting}")


def _task_of(module: ModuleType) -> str:
    return getattr(module, "TASK", "classification")


def fresh_tokenizer(options):
    """Returns the tokenizer that the set trains on its own texts; None where one must be named."""
    module = find(options.name)
    return module.fresh_tokenizer(options) if hasattr(module, "fresh_tokenizer") else None


def unread(options) -> Unread | None:
    """Returns what is known of a train set that would have to be downloaded; None where it can be read."""
    module = find(options.name)
    return module.unread(options) if hasattr(module, "unread") else None


def config_argument(name: str) -> str:
    """Returns what the argument of a config calls the data set: `configs/codir/finetune_teacher.py:ARGUMENT`."""
    return getattr(find(name), "CONFIG_ARGUMENT", name)
