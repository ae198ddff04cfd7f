"""What a config names is a file: the module of that name in a package, found by looking into the package's folders."""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from codir_jax.processes.user_error import UserError


def modules(package: str, has: Sequence[str]) -> dict[str, ModuleType]:
    """Name -> module of the files in a package that define all of `has`, in alphabetical order.

    Args:
      package: "codir_jax.objectives".
      has: names that such a module defines; other files of the package are none of its kind.
    """
    paths = importlib.import_module(package).__path__
    names = sorted(found.name for found in pkgutil.iter_modules(paths))
    imported = {name: importlib.import_module(f"{package}.{name}") for name in names}
    return {name: module for name, module in imported.items() if all(hasattr(module, one) for one in has)}


def module(package: str, name: str, key: str, has: Sequence[str]) -> ModuleType:
    """The module that the config field `key` names.

    Raises:
      UserError: there is none; the known names are listed.
    """
    found = modules(package, has)
    if name not in found:
        raise UserError(f"{key}={name!r}; known: {', '.join(found)}")
    return found[name]
