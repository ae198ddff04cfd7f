"""A matrix as a tensor train: W [M, N], M = prod m_k, N = prod n_k, multi-indices row-major,

    W(i, j) = G_1[i_1, j_1] ... G_d[i_d, j_d],   G_k float [r_{k-1}, m_k, n_k, r_k],   r_0 = r_d = 1.

Applied core by core: W is never built. A trained matrix hardly is one: a train is trained from the start.

References: Oseledets, "Tensor-train decomposition", 2011. Novikov et al., "Tensorizing neural networks", 2015.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.processes.user_error import UserError

DIMENSIONS = 3  # cores of a train that is made here


def svd(w: np.ndarray, rows: Sequence[int], columns: Sequence[int], ranks: Sequence[int]) -> list[np.ndarray]:
    """The cores of W by successive truncated singular value decompositions.

    Args:
      w: float [M, N]. rows, columns: the modes m_k, n_k. ranks: largest r_1 .. r_{d-1}.
    """
    check(w.shape, rows, columns, ranks)
    d = len(rows)
    rest = w.reshape(*rows, *columns).transpose([axis for k in range(d) for axis in (k, d + k)])
    cores, rank = [], 1
    for k in range(d - 1):
        u, s, v = np.linalg.svd(rest.reshape(rank * rows[k] * columns[k], -1), full_matrices=False)
        now = min(ranks[k], len(s))
        cores.append(u[:, :now].reshape(rank, rows[k], columns[k], now))
        rest, rank = s[:now, None] * v[:now], now
    return [*cores, rest.reshape(rank, rows[-1], columns[-1], 1)]


def shapes(rows: Sequence[int], columns: Sequence[int], ranks: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """The shapes of the cores, those of `svd`: of no larger rank than a matrix of these modes can have."""
    sizes = [m * n for m, n in zip(rows, columns, strict=True)]
    ends = [1]
    for k, rank in enumerate(ranks):
        ends.append(min(rank, ends[k] * sizes[k], math.prod(sizes[k + 1 :])))
    ends.append(1)
    return [(ends[k], rows[k], columns[k], ends[k + 1]) for k in range(len(rows))]


def init(rng: jax.Array, core_shapes: Sequence[tuple[int, ...]], variance: float) -> list[jax.Array]:
    """Cores, or two matrices, of normal(0, s^2) entries, s^2 = (variance / prod r_k)^(1/d): W has that variance.

    Where it is 0 the last core is 0, and the others are as of variance 1: cores of zeros alone have no gradient.
    """
    num_paths = math.prod(shape[-1] for shape in core_shapes[:-1])
    deviation = (jnp.where(variance > 0, variance, 1.0) / num_paths) ** (0.5 / len(core_shapes))
    keys = jax.random.split(rng, len(core_shapes))
    *others, last = [deviation * jax.random.normal(key, shape) for key, shape in zip(keys, core_shapes, strict=True)]
    return [*others, jnp.where(variance > 0, last, 0.0)]


def apply(x: jax.Array, cores: Sequence[jax.Array]) -> jax.Array:
    """x float [..., M] times W: [..., N]."""
    leading = x.shape[:-1]
    y = x.reshape(-1, 1, x.shape[-1], 1)  # [rows, columns so far, modes to come, rank]
    for core in cores:
        y = y.reshape(y.shape[0], y.shape[1], core.shape[1], -1, core.shape[0])
        y = jnp.einsum("bcmsr,rmnq->bcnsq", y, core)
        y = y.reshape(y.shape[0], -1, y.shape[3], core.shape[3])
    return y.reshape(*leading, -1)


def rows(cores: Sequence[jax.Array], ids: jax.Array) -> jax.Array:
    """Rows of W of int ids [...]: float [..., N], each the product of one slice of every core."""
    modes = [core.shape[1] for core in cores]
    index = jnp.unravel_index(ids.ravel(), modes)
    y = jnp.ones((ids.size, 1, 1), jnp.asarray(cores[0]).dtype)
    for core, of_mode in zip(cores, index, strict=True):
        y = jnp.einsum("bcr,rbnq->bcnq", y, core[:, of_mode])
        y = y.reshape(ids.size, -1, core.shape[3])
    return y.reshape(*ids.shape, -1)


def modes(size: int, d: int = DIMENSIONS) -> tuple[int, ...]:
    """d factors of a size, as equal as can be, the smallest first.

    Raises:
      UserError: it has no such factors, as a prime has none.
    """
    products = itertools.combinations_with_replacement(_divisors(size), d)
    fitting = [product for product in products if math.prod(product) == size]
    if not fitting:
        raise UserError(f"{size} is no product of {d} numbers above 1, which a tensor train needs; choose another size")
    return min(fitting, key=lambda product: (max(product), sum(product)))


def _divisors(size: int) -> list[int]:
    small = [k for k in range(2, math.isqrt(size) + 1) if size % k == 0]
    return sorted({*small, *(size // k for k in small)})


def check(shape: Sequence[int], rows: Sequence[int], columns: Sequence[int], ranks: Sequence[int]) -> None:
    """Refuses modes that are not those of the matrix, and ranks that are none."""
    if len(shape) != 2 or (math.prod(rows), math.prod(columns)) != tuple(shape):
        raise UserError(f"modes {tuple(rows)} x {tuple(columns)} are not those of an array {tuple(shape)}")
    if len(rows) != len(columns) or len(ranks) != len(rows) - 1 or min(ranks, default=1) < 1:
        raise UserError(
            f"{len(rows)} row modes, {len(columns)} column modes and ranks {tuple(ranks)}; expected as many of both, "
            "and one rank >= 1 between two"
        )
