"""Where a weight lies in a Hugging Face checkpoint: from paths in our tree to names there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Path = tuple[str, ...]


class HfKey(NamedTuple):
    """A weight in a Hugging Face checkpoint."""

    name: str
    transpose: bool  # torch keeps a linear layer as [out, in], we as [in, out]


def linear(path: Path, name: str) -> dict[Path, HfKey]:
    """Kernel and bias of a Dense layer."""
    return {**kernel(path, name), (*path, "bias"): HfKey(f"{name}.bias", False)}


def kernel(path: Path, name: str) -> dict[Path, HfKey]:
    """Kernel of a Dense layer without bias."""
    return {(*path, "kernel"): HfKey(f"{name}.weight", True)}


def norm(path: Path, name: str) -> dict[Path, HfKey]:
    """Scale and bias of a LayerNorm."""
    return {**scale(path, name), (*path, "bias"): HfKey(f"{name}.bias", False)}


def scale(path: Path, name: str) -> dict[Path, HfKey]:
    """Scale of a LayerNorm without bias."""
    return {(*path, "scale"): HfKey(f"{name}.weight", False)}


def table(path: Path, name: str) -> dict[Path, HfKey]:
    """An embedding table."""
    return {(*path, "embedding"): HfKey(f"{name}.weight", False)}


def array(path: Path, name: str) -> dict[Path, HfKey]:
    """An array that belongs to no layer."""
    return {path: HfKey(name, False)}


def head_keys(weights: Mapping[str, str], names: Mapping[str, str]) -> dict[Path, HfKey]:
    """The head's part of a family's table.

    Args:
        weights: `contract.HeadSpec.weights`: our name -> "linear", "norm", both without bias "kernel" and "scale", or
            "array".
        names: our name -> the family's; what is not in it has our name there too.
    """
    kinds = {"linear": linear, "kernel": kernel, "norm": norm, "scale": scale, "array": array}
    found: dict[Path, HfKey] = {}
    for ours, kind in weights.items():
        found |= kinds[kind]((ours,), names.get(ours, ours))
    return found
