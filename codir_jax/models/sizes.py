"""Sizes of models that have a name, over all families, so that they can be measured and planned without weights."""

from typing import Any

from codir_jax.models import contract
from codir_jax.processes.user_error import UserError


def names() -> tuple[str, ...]:
    """The names of all families: "tiny", "minilm", "bert-base", ..."""
    return tuple(_all())


def named(name: str) -> Any:
    """The config of that name.

    Raises:
        UserError: an unknown name; the message lists those that are known.
    """
    found = _all()
    if name not in found:
        raise UserError(f"no model sizes are named {name!r}; known: {', '.join(found)}")
    return found[name]


def _all() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for family in contract.families().values():
        if twice := sorted(found.keys() & family.sizes.keys()):
            raise ValueError(f"family {family.name} names sizes that another family has: {', '.join(twice)}")
        found |= family.sizes
    return found
