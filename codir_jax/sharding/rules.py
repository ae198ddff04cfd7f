"""THE table from logical axes to mesh axes, and the shardings that follow from it.

Weights, banks and activations carry logical axis names (``"embed"``, ``"bank_rows"``, ...); nothing outside this folder
knows which mesh axes, if any, a logical axis is split over. The sharding of another model or another machine is
another table.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from codir_jax.processes.user_error import UserError

Rules = Sequence[tuple[str, str]]

# Mesh axes, outermost first.
DATA = "data"  # each has its part of the batch and, apart from fsdp and model, all of the weights
FSDP = "fsdp"  # each has its part of the batch too, but a part of each weight only, gathered where it is used
MODEL = "model"  # each has a part of the features of a layer
MESH_AXES = (DATA, FSDP, MODEL)

# Logical axes -> mesh axes joined by +. "" = every device holds the whole axis.
RULES: tuple[tuple[str, str], ...] = (
    ("batch", "data+fsdp"),  # examples of a batch
    ("vocab", "model"),  # rows of the word embedding, outputs of the masked-LM decoder
    ("heads", "model"),  # query, key and value features: num_heads * head size
    ("mlp", "model"),  # inner features of the feed-forward block
    ("embed", "fsdp"),  # hidden features of a weight matrix
    ("norm", ""),  # hidden features of a vector (layer norm, bias): too small to be worth a collective
    ("pooled", ""),  # outputs of a [hidden, hidden] head layer; apart from "embed" as names in one weight differ
    ("position", ""),  # rows of the position embedding
    ("token_type", ""),  # rows of the token-type embedding
    ("classes", ""),  # classifier outputs
    ("bank_rows", "data+fsdp+model"),  # rows of a memory bank or of a table, one a train example
    ("queue_rows", "data+fsdp+model"),  # rows of a queue of past features
)


def with_overrides(overrides: Mapping[str, str], rules: Rules = RULES) -> tuple[tuple[str, str], ...]:
    """The table with some rows replaced; ``""`` as a value means "not split".

    Raises:
        UserError: for a logical or a mesh axis that does not exist.
    """
    known = [name for name, _ in rules]
    table = dict(rules)
    for name, axes in overrides.items():
        if name not in table:
            raise UserError(f"unknown logical axis {name!r} in the sharding rules; known: {', '.join(known)}")
        try:
            check_axes(axes or "")
        except UserError as error:
            raise UserError(f"rule {name} -> {axes!r}: {error}") from error
        table[name] = axes or ""
    return tuple(table.items())


def check_axes(axes: str) -> None:
    """Refuses what is no list of mesh axes joined by +, each once.

    Raises:
        UserError: what is known.
    """
    given = axes.split("+") if axes else []
    if not set(given) <= set(MESH_AXES):
        raise UserError(f"no such mesh axis; known: {', '.join(MESH_AXES)}, joined by +, or ''")
    if len(set(given)) < len(given):
        raise UserError("a mesh axis comes twice; an axis of an array is split over each at most once")


def partition_spec(
    names: Sequence[str | None], shape: Sequence[int], mesh: Mesh | AbstractMesh, rules: Rules = RULES
) -> PartitionSpec:
    """The mesh axes of one array of ``shape`` whose dimensions carry the logical ``names``.

    A dimension is split over the mesh axes of its rule from the first on, as long as they divide it evenly: a
    vocabulary of 50265 rows has no even split, and jit accepts even splits only. A mesh axis is used once per array,
    by the first dimension that asks for it. Axes of size 1 are left out.
    """
    if len(names) != len(shape):
        raise ValueError(f"{len(names)} logical axes {tuple(names)} for an array of shape {tuple(shape)}")
    table = dict(rules)
    used: set[str] = set()
    spec: list[str | tuple[str, ...] | None] = []
    for name, size in zip(names, shape, strict=True):
        if name is not None and name not in table:
            raise ValueError(
                f"logical axis {name!r} has no row in the sharding rules; add it to codir_jax/sharding/rules.py"
            )
        taken: list[str] = []
        for axis in filter(None, table.get(name, "").split("+")):
            if axis in used or mesh.shape[axis] == 1:
                continue
            if size % (math.prod(mesh.shape[a] for a in taken) * mesh.shape[axis]):
                break
            taken.append(axis)
        used.update(taken)
        spec.append(None if not taken else taken[0] if len(taken) == 1 else tuple(taken))
    while spec and spec[-1] is None:
        spec.pop()  # P("data") and P("data", None) are one sharding with two spellings; keep one
    return PartitionSpec(*spec)


def with_axes(array: Any, *names: str | None) -> Any:
    """The array in a box that carries its logical axis names, as the model's weights come from `init`."""
    return nn.LogicallyPartitioned(array, names)


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


def partition_specs(tree: Any, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> Any:
    """An unboxed tree of PartitionSpecs for a tree of boxed (or plain: replicated) arrays or shapes."""

    def spec(leaf: Any) -> PartitionSpec:
        if not _is_boxed(leaf):
            return PartitionSpec()
        return partition_spec(leaf.names, leaf.value.shape, mesh, rules)

    return jax.tree.map(spec, tree, is_leaf=_is_boxed)


def shardings(tree: Any, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> Any:
    """An unboxed tree of NamedShardings for a tree of boxed (or plain: replicated) arrays or shapes.

    Example:
        boxed = jax.eval_shape(lambda rng: model.init(rng, ...)["params"], rng)
        init = jax.jit(lambda rng: unbox(model.init(rng, ...)["params"]), out_shardings=shardings(boxed, mesh))
    """
    specs = partition_specs(tree, mesh, rules)
    return jax.tree.map(lambda s: NamedSharding(mesh, s), specs, is_leaf=lambda s: isinstance(s, PartitionSpec))


def batch_axes(mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> tuple[str, ...]:
    """The mesh axes that a batch is split over, those of size 1 left out."""
    return tuple(axis for axis in filter(None, dict(rules)["batch"].split("+")) if mesh.shape[axis] > 1)


def batch_sharding(mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> NamedSharding:
    """The sharding of a batch's arrays: the first axis split over the devices that share the batch."""
    axes = batch_axes(mesh, rules)
    return NamedSharding(mesh, PartitionSpec(*([axes[0] if len(axes) == 1 else axes] if axes else [])))


def num_batch_shards(mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> int:
    """How many parts a batch is split into; the global batch size must be a multiple of it."""
    return math.prod(mesh.shape[axis] for axis in batch_axes(mesh, rules))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


_places: contextvars.ContextVar[tuple[Mesh, Rules] | None] = contextvars.ContextVar("places", default=None)


@contextlib.contextmanager
def on_mesh(mesh: Mesh, rules: Rules = RULES) -> Iterator[None]:
    """While active, programs that are traced place what they `constrain` by this mesh and table."""
    token = _places.set((mesh, rules))
    try:
        yield
    finally:
        _places.reset(token)


def places() -> tuple[Mesh, Rules] | None:
    """The mesh and the table of `on_mesh`; None without."""
    return _places.get()


def constrain(array: jax.Array, *names: str | None) -> jax.Array:
    """The array, placed by the logical names of its first dimensions; no names: whole on every device.

    Without `on_mesh` nothing happens: XLA chooses.
    """
    places = _places.get()
    if places is None:
        return array
    mesh, rules = places
    names = (*names, *(None,) * (array.ndim - len(names)))
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, partition_spec(names, array.shape, mesh, rules)))


@jax.custom_vjp
def gather_batch(array: jax.Array) -> jax.Array:
    """The array of a whole batch on every device; its gradient is summed and goes back to those that have the rows."""
    return constrain(array)


def _scatter_batch(_, gradient: jax.Array) -> tuple[jax.Array]:
    # Summed over devices in the shape of the array. Without the inner constraint XLA would rather send the gradient of
    # the scores, [batch, batch / devices], for the product that makes it.
    return (constrain(constrain(gradient), "batch"),)


gather_batch.defvjp(lambda array: (constrain(array), None), _scatter_batch)
