"""Weights that lie beside a model in its folder, `sides.safetensors`: a method's own, which no other program reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError

FILE = "sides.safetensors"

Sides = Mapping[str, Mapping[str, np.ndarray]]


def save(folder: Path, sides: Sides) -> None:
    """Writes name -> array name -> array; nothing where there are none."""
    flat = {f"{name}/{key}": np.ascontiguousarray(x) for name, arrays in sides.items() for key, x in arrays.items()}
    if flat:
        with whole.aside(folder / FILE) as place:
            save_file(flat, place)


def load(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """What `save` wrote, of these names.

    Raises:
      UserError: the folder has no such weights, or they are damaged or not finite.
    """
    path = Path(folder) / FILE
    if not names:
        return {}
    try:
        flat = load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); train the model of this folder again") from error
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    for key, array in flat.items():
        name, _, inner = key.partition("/")
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {key} holds NaN or infinity; train the model of this folder again")
        if name in found:
            found[name][inner] = array
    if missing := [name for name, arrays in found.items() if not arrays]:
        raise UserError(
            f"{folder} has no {', '.join(missing)} weights ({FILE}): it was trained by another method; give the "
            "workdir of a teacher whose objective keeps them, such as configs/meta_kd/teacher.py"
        )
    return found
