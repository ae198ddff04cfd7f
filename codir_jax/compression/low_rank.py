"""A matrix as the product of a tall and a wide one: W [m, n] ~ A [m, r] B [r, n], r (m + n) numbers.

The best A B in the Frobenius norm is the truncated singular value decomposition (Eckart and Young, 1936). The square
root of the singular values goes to both sides, so that both learn alike.
"""

import numpy as np

from codir_jax.processes.user_error import UserError


def factors(w: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(A float32 [m, r], B float32 [r, n]).

    Args:
      w: float [m, n]. rank: from 1 to min(m, n), where A B is w.

    Raises:
      UserError: another rank.
    """
    if w.ndim != 2 or not 1 <= rank <= min(w.shape):
        raise UserError(f"rank {rank} of an array {w.shape}; expected a matrix and a rank from 1 to its shorter side")
    u, s, v = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    root = np.sqrt(s[:rank])
    return (u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32)


def saves(shape: tuple[int, ...], rank: int) -> bool:
    """Whether the factors of a matrix of that shape are fewer numbers than the matrix."""
    return len(shape) == 2 and rank * sum(shape) < shape[0] * shape[1]
