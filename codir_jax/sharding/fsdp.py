"""Weights that lie in parts over `fsdp`: whole where they are used, their gradients summed into the parts again."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from codir_jax.sharding import rules


def gathered(tree: Any, places: Any) -> Any:
    """The weights as they are computed with: whole over `fsdp`, split over `model` as before.

    XLA sends each weight when it is used. Its gradient is summed to where the weight lies: a reduce-scatter over
    `fsdp`, and an all-reduce of the parts over `data`. So gradients are split as weights and optimizer state are.

    Args:
        tree: of arrays, inside a jit.
        places: tree of their NamedShardings.
    """

    def gather(leaf, place):
        return _whole(leaf, place) if rules.FSDP in jax.tree.leaves(tuple(place.spec)) else leaf

    return jax.tree.map(gather, tree, places)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _whole(leaf: jax.Array, place: NamedSharding) -> jax.Array:
    axes = [tuple(a for a in jax.tree.leaves(axis) if a != rules.FSDP) or None for axis in place.spec]
    return jax.lax.with_sharding_constraint(leaf, NamedSharding(place.mesh, PartitionSpec(*axes)))


# A constraint is its own transpose: without this every device would get the whole gradient.
_whole.defvjp(
    lambda leaf, place: (_whole(leaf, place), None),
    lambda place, _, gradient: (jax.lax.with_sharding_constraint(gradient, place),),
)


def look_up(table: jax.Array, ids: jax.Array, axis: str) -> jax.Array:
    """Rows of a table that is whole over `fsdp`.

    The transpose of a look-up adds rows to a table of zeros, which XLA would sum over all devices before it takes a
    part. Here the sum over `fsdp` is a reduce-scatter, said outright.

    Args:
        table: float [rows, width], its logical axes `axis` and "embed".
        ids: int32 [batch, ...].
        axis: of the rows.

    Returns:
        float [batch, ..., width].
    """
    if (places := rules.places()) is None:
        return _take(table, ids)
    mesh, of = places
    spec = rules.partition_spec((axis, "embed"), table.shape, mesh, of)
    batch_axes = rules.batch_axes(mesh, of)
    is_split = (
        spec[1:] == (rules.FSDP,)
        and spec[0] in (None, rules.MODEL)
        and {rules.FSDP} <= set(batch_axes) <= {rules.DATA, rules.FSDP}
        and ids.shape[0] % rules.num_batch_shards(mesh, of) == 0
    )
    return _look_up(table, ids, mesh, batch_axes, spec[0]) if is_split else _take(table, ids)


def _take(table, ids):
    return jnp.take(table, ids, axis=0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _look_up(table, ids, mesh, batch_axes, rows):
    del mesh, batch_axes, rows
    return _take(table, ids)


def _scatter(mesh, batch_axes, rows, kept, gradient):
    table, ids = kept

    num_rows = table.shape[0] // (mesh.shape[rows] if rows else 1)

    def add(ids, gradient):
        """On each device: the rows of the batch that it has, added to the rows of the table that it has."""
        index = ids - num_rows * jax.lax.axis_index(rows) if rows else ids
        index = jnp.where(index < 0, num_rows, index)  # outside, and so dropped, not counted from the end
        summed = jnp.zeros((num_rows, table.shape[1]), gradient.dtype).at[index].add(gradient, mode="drop")
        # Blocks of columns, so that a part is contiguous: a TPU takes no part of a row that is not a multiple of 128
        # numbers, and sums all of it instead.
        parts = jnp.moveaxis(summed.reshape(num_rows, mesh.shape[rules.FSDP], -1), 1, 0)
        part = jax.lax.psum_scatter(parts, rules.FSDP)
        return jax.lax.psum(part, rules.DATA) if rules.DATA in batch_axes else part

    batch = PartitionSpec(batch_axes)
    split = jax.shard_map(add, mesh=mesh, in_specs=(batch, batch), out_specs=PartitionSpec(rows, rules.FSDP))
    return split(ids, gradient), None


_look_up.defvjp(lambda table, ids, *_: (_take(table, ids), (table, ids)), _scatter)
