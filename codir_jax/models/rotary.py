"""Positions by rotation: queries and keys are turned by an angle that grows with the position.

Features i and i + d/2 of a head are a pair, which at position p is turned by p theta^(-2i/d). A score then depends on
the distance of two tokens alone.

References:
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv 2104.09864.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def turns(length: int, head_size: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the angles, each float32 [length, head_size / 2]."""
    # Rounded twice, as torch has it: at position 3,000 one bit of a frequency turns a pair by 1e-4.
    frequencies = 1 / (theta ** (np.arange(0, head_size, 2) / head_size)).astype(np.float32)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def turned(x: jax.Array, by: tuple[jax.Array, jax.Array]) -> jax.Array:
    """x float [..., length, head_size], turned `by` what `turns` gives, in float32; in the dtype of x."""
    cosine, sine = by
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1).astype(x.dtype)
