"""A weight of a model that is kept as its factors: what stands in its place in a tree of parameters.

A weight W is an array float [m, n], or a dict {"factor_0": ..., "factor_1": ...}: two matrices, or cores of a tensor
train (float [rank, rows, columns, rank]). W is never built where it is used.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from codir_jax.compression import tensor_train
from codir_jax.compression.packed import Weight

NAME = re.compile(r"factor_\d+")


def named(factors: Sequence[Any]) -> dict[str, Any]:
    """The dict of factors."""
    return {f"factor_{i}": factor for i, factor in enumerate(factors)}


def are_in(weight: Any) -> bool:
    """Whether a node of a tree is a dict of factors."""
    return isinstance(weight, Mapping) and bool(weight) and all(NAME.fullmatch(name) for name in weight)


def listed(weight: Mapping[str, Any]) -> list[Any]:
    """The factors in their order."""
    return [weight[f"factor_{i}"] for i in range(len(weight))]


def is_train(factors: Sequence[Any]) -> bool:
    """Whether they are cores of a tensor train, not matrices."""
    return factors[0].ndim == 4


def shape(weight: Mapping[str, Any]) -> tuple[int, int]:
    """Of W."""
    factors = listed(weight)
    if is_train(factors):
        return math.prod(core.shape[1] for core in factors), math.prod(core.shape[2] for core in factors)
    return factors[0].shape[0], factors[-1].shape[1]


def apply(x: jax.Array, weight: Mapping[str, jax.Array], product=jnp.matmul) -> jax.Array:
    """x float [..., m] times W: [..., n]; `product` is that of two arrays."""
    factors = listed(weight)
    if is_train(factors):
        return tensor_train.apply(x, [core.astype(x.dtype) for core in factors])
    for factor in factors:
        x = product(x, factor)
    return x


def rows(weight: Mapping[str, jax.Array], ids: jax.Array, take) -> jax.Array:
    """Rows of W of int ids [...]: float [..., n]; take(table, ids) gives rows of an array."""
    factors = listed(weight)
    if is_train(factors):
        return tensor_train.rows(factors, ids)
    found = take(factors[0], ids)
    for factor in factors[1:]:
        found = found @ factor
    return found


def transposed(weight: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """W^T [n, m] as its factors."""
    factors = listed(weight)
    if is_train(factors):
        return named([core.swapaxes(1, 2) for core in factors])
    return named([factor.T for factor in reversed(factors)])


def whole(weight: Mapping[str, jax.Array]) -> jax.Array:
    """W itself, float [m, n]: for the few places that need an array."""
    factors = listed(weight)
    if is_train(factors):
        size = math.prod(core.shape[1] for core in factors)
        return tensor_train.rows(factors, jnp.arange(size))
    return factors[0] @ factors[1]


def in_tree(weight: Weight) -> Any:
    """What stands for a compressed weight in a tree: float32 numpy, one array or its factors."""
    arrays = [array.numbers() for array in weight.arrays]
    return arrays[0] if weight.kind == "dense" else named(arrays)
