"""Weights of modules, which may be kept as their factors: the parameters that a module is given decide.

A module is born with arrays. Where its parameters hold the factors of a weight (`compression.factors`) it computes with
them: products and look-ups ask what a weight is, no module asks for a method.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.compression import factors
from codir_jax.sharding import rules
from codir_jax.sharding.fsdp import look_up


def declared(module: nn.Module, name: str, init: Any, shape: tuple[int, ...]) -> Any:
    """The weight of that name of a module, in its compact method or setup: an array float32, or its factors."""
    if module.has_variable("params", name) and isinstance(given := module.get_variable("params", name), Mapping):
        return given
    return module.param(name, init, shape)


def rows(table: Any, ids: jax.Array, axis: str | None) -> jax.Array:
    """Rows of a table, an array or factors, of int32 ids [batch, ...]: float [batch, ..., width].

    Args:
        axis: logical axis of the rows; None: the ids are of no batch that is split over devices.
    """

    def taken(array: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.take(array, ids, axis=0) if axis is None else look_up(array, ids, axis)

    return factors.rows(table, ids, taken) if factors.are_in(table) else taken(table, ids)


def few_rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of a table float32 [n, width] of few rows, of int32 ids [...]: float32 [..., width].

    A product and no look-up: adding up the gradients of a look-up takes turns, and on a GPU any order.
    """
    chosen = jax.nn.one_hot(ids, len(table), dtype=jnp.float32)
    return jnp.matmul(chosen, table, precision=jax.lax.Precision.HIGHEST)


def declared_whole(module: nn.Module, name: str, init: Any, shape: tuple[int, ...]) -> jax.Array:
    """As `declared`, multiplied out where the weight is given as its factors."""
    weight = declared(module, name, init, shape)
    return factors.whole(weight) if factors.are_in(weight) else weight


def transposed(weight: Any) -> Any:
    """A matrix, or factors, turned."""
    return factors.transposed(weight) if factors.are_in(weight) else weight.T


class Table(nn.Embed):
    """An embedding table float32 [num_embeddings, features], or its factors."""

    def setup(self) -> None:
        self.embedding = declared(self, "embedding", self.embedding_init, (self.num_embeddings, self.features))

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Rows of int32 ids [...], float [..., features]."""
        if factors.are_in(self.embedding):
            return factors.rows(self.embedding, ids, lambda first, ids: first[ids])
        return super().__call__(ids)


def axes_of(boxed: Any, params: Any) -> Any:
    """A boxed tree of the shapes of `boxed`, in which a weight that `params` has as factors is its factors.

    Args:
        boxed: tree in boxes with logical axes, such as `heads.abstract_params`, where every weight is an array.
        params: tree of arrays, some weights as factors.
    """
    if factors.are_in(params):
        return in_boxes(params, getattr(boxed, "names", (None, None)))
    if isinstance(params, Mapping):
        return {name: axes_of(boxed[name], node) for name, node in params.items()}
    return boxed


def in_boxes(weight: Mapping[str, Any], names: tuple[str | None, ...]) -> dict[str, Any]:
    """Factors of a matrix with logical axes `names`: the ends of a product keep theirs, cores of a train are whole."""
    parts = factors.listed(weight)
    if factors.is_train(parts):
        return dict(weight)
    first, last = parts
    return factors.named([rules.with_axes(first, names[0], None), rules.with_axes(last, None, names[1])])
