"""What `--then` asks for: the trained model, made smaller at once in several ways, a folder each."""

import re
from collections.abc import Sequence
from pathlib import Path

from codir_jax.convert import compressed
from codir_jax.convert.compressed import Compressed
from codir_jax.data.tokenizer import load_tokenizer
from codir_jax.processes import console


def write(model: str, methods: Sequence[str], folder: Path) -> dict[str, Compressed]:
    """Method -> what it made of a model folder, in a folder of its own.

    Raises:
      UserError: a method does not fit the model.
    """
    tokenizer = load_tokenizer(model) if methods else None
    made = {}
    for method in methods:
        made[method] = compressed.compress(model, method, folder / folder_name(method), tokenizer)
        console.say(
            f"{method}: {made[method].num_bytes / 2**20:.1f} MiB, {made[method].verdict} -> {made[method].folder}"
        )
    return made


def folder_name(method: str) -> str:
    """Of a method, without what a path cannot have."""
    return re.sub(r"[^\w.+@-]", "_", method)
