"""THE table from logical axes to mesh axes, and the shardings that follow from it.

Weights are created with logical axis names (``"embed"``, ``"mlp"``, ...); nothing outside this folder knows which
mesh axis, if any, a logical axis is split over. The sharding of another model or another machine is another table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Rules = Sequence[tuple[str, str | None]]

# Mesh axes, outermost first.
DATA = "data"
MODEL = "model"
MESH_AXES = (DATA, MODEL)

# Logical axes. `None` = every device holds the whole axis.
RULES: tuple[tuple[str, str | None], ...] = (
    ("batch", DATA),  # examples of a batch
    ("vocab", MODEL),  # rows of the word embedding, outputs of the masked-LM decoder
    ("heads", MODEL),  # query, key and value features: num_heads * head size
    ("mlp", MODEL),  # inner features of the feed-forward block
    ("embed", None),  # hidden features
    ("pooled", None),  # outputs of a [hidden, hidden] head layer; apart from "embed" as names in one weight differ
    ("position", None),  # rows of the position embedding
    ("token_type", None),  # rows of the token-type embedding
    ("classes", None),  # classifier outputs
    ("bank_rows", None),  # rows of a memory bank
)


def with_overrides(overrides: Mapping[str, str | None], rules: Rules = RULES) -> tuple[tuple[str, str | None], ...]:
    """The table with some rows replaced; ``""`` or None as a value means "not split".

    Raises:
        ValueError: for a logical or a mesh axis that does not exist.
    """
    known = [name for name, _ in rules]
    table = dict(rules)
    for name, axis in overrides.items():
        if name not in table:
            raise ValueError(f"unknown logical axis {name!r} in the sharding rules; known: {', '.join(known)}")
        if axis and axis not in MESH_AXES:
            raise ValueError(f"rule {name} -> {axis!r}: no such mesh axis; known: {', '.join(MESH_AXES)} or ''")
        table[name] = axis or None
    return tuple(table.items())


def partition_spec(
    names: Sequence[str | None], shape: Sequence[int], mesh: Mesh, rules: Rules = RULES
) -> PartitionSpec:
    """The mesh axes of one array of ``shape`` whose dimensions carry the logical ``names``.

    A dimension that its mesh axis does not divide is left whole: a vocabulary of 50265 rows has no even split, and
    jit accepts even splits only. A mesh axis is used once per array, by the first dimension that asks for it.
    """
    if len(names) != len(shape):
        raise ValueError(f"{len(names)} logical axes {tuple(names)} for an array of shape {tuple(shape)}")
    table = dict(rules)
    axes: list[str | None] = []
    for name, size in zip(names, shape, strict=True):
        if name is not None and name not in table:
            raise ValueError(
                f"logical axis {name!r} has no row in the sharding rules; add it to codir_jax/sharding/rules.py"
            )
        axis = table[name] if name is not None else None
        splits = axis is not None and axis not in axes and size % mesh.shape[axis] == 0
        axes.append(axis if splits else None)
    while axes and axes[-1] is None:
        axes.pop()  # P("data") and P("data", None) are one sharding with two spellings; keep one
    return PartitionSpec(*axes)


def _is_boxed(leaf: Any) -> bool:
    return isinstance(leaf, nn.meta.AxisMetadata)


def unbox(tree: Any) -> Any:
    """The tree with its logical-axis boxes removed: plain arrays (or ShapeDtypeStructs)."""
    return nn.meta.unbox(tree)


def logical_axes(tree: Any) -> Any:
    """For every leaf of a boxed tree the tuple of its logical axis names; None for a leaf without a box.

    Args:
        tree: as `model.init`, or `jax.eval_shape` of it, returns it.
    """
    return jax.tree.map(lambda leaf: leaf.names if _is_boxed(leaf) else None, tree, is_leaf=_is_boxed)


def partition_specs(tree: Any, mesh: Mesh, rules: Rules = RULES) -> Any:
    """An unboxed tree of PartitionSpecs for a tree of boxed (or plain: replicated) arrays or shapes."""

    def spec(leaf: Any) -> PartitionSpec:
        if not _is_boxed(leaf):
            return PartitionSpec()
        return partition_spec(leaf.names, leaf.value.shape, mesh, rules)

    return jax.tree.map(spec, tree, is_leaf=_is_boxed)


def shardings(tree: Any, mesh: Mesh, rules: Rules = RULES) -> Any:
    """An unboxed tree of NamedShardings for a tree of boxed (or plain: replicated) arrays or shapes.

    Example:
        boxed = jax.eval_shape(lambda rng: model.init(rng, ...)["params"], rng)
        init = jax.jit(lambda rng: unbox(model.init(rng, ...)["params"]), out_shardings=shardings(boxed, mesh))
    """
    specs = partition_specs(tree, mesh, rules)
    return jax.tree.map(lambda s: NamedSharding(mesh, s), specs, is_leaf=lambda s: isinstance(s, PartitionSpec))


def batch_sharding(mesh: Mesh, rules: Rules = RULES) -> NamedSharding:
    """The sharding of a batch's arrays: the first axis split over the devices that share the batch."""
    axis = dict(rules)["batch"]
    return NamedSharding(mesh, PartitionSpec(axis) if axis else PartitionSpec())


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def describe(tree: Any, mesh: Mesh, rules: Rules = RULES) -> dict[str, str]:
    """Path -> "shape dtype spec" of every weight, for logs and for a look before a run."""
    flat_specs = traverse_util.flatten_dict(partition_specs(tree, mesh, rules), sep="/")
    flat = traverse_util.flatten_dict(unbox(tree), sep="/")
    return {path: f"{tuple(leaf.shape)} {leaf.dtype} {flat_specs[path]}" for path, leaf in flat.items()}


def num_batch_shards(mesh: Mesh, rules: Rules = RULES) -> int:
    """How many parts a batch is split into; the global batch size must be a multiple of it."""
    axis = dict(rules)["batch"]
    return math.prod(mesh.shape[a] for a in (axis,) if a)
