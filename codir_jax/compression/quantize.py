"""Weights in few bits: codes and scales of an array, and the same inside a training step, straight through.

    affine      q = round((w - min) / (max - min) (2^b - 1)),         w ~ q (max - min) / (2^b - 1) + min
    symmetric   q = clip(round(w / s), +-(2^(b-1) - 1)),  s = max|w| / (2^(b-1) - 1),  w ~ q s

Rounding is half to even. One scale is of the whole tensor, or of each output channel.
"""

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.compression.packed import Array
from codir_jax.processes.user_error import UserError

BITS = (8, 6, 4, 3)


def quantize(w: np.ndarray, bits: int, *, axis: int | None = None, is_affine: bool = False) -> Array:
    """The codes and scales of an array; values that are exactly 0 keep to it where the quantisation is symmetric.

    Args:
      w: float32 [...].
      bits: of BITS.
      axis: of the output channels, each of which has a scale of its own; None: one scale.
      is_affine: affine, with one scale.

    Raises:
      UserError: other bits, or an array that is not finite.
    """
    check_bits(bits)
    if not np.isfinite(w).all():
        raise UserError("an array with NaN or infinity cannot be quantised; train the model again")
    # Codes are those of exact arithmetic: a quotient rounded to float32 may fall on the other side of a half.
    wide = w.astype(np.float64)
    if is_affine:
        low, high = (np.reshape(end, (1,) * w.ndim) for end in (wide.min(), wide.max()))
        step = np.where(high > low, high - low, 1.0) / (2**bits - 1)
        codes = np.round((wide - low) / step)
        return Array(codes.astype(np.int16), bits, step.astype(np.float32), low.astype(np.float32))
    most = 2 ** (bits - 1) - 1
    shared = tuple(i for i in range(w.ndim) if axis is None or i != axis % w.ndim)
    scale = np.abs(wide).max(axis=shared, keepdims=True) / most
    scale = np.where(scale > 0, scale, 1.0)
    codes = np.clip(np.round(wide / scale), -most, most)
    return Array(codes.astype(np.int16), bits, scale.astype(np.float32))


def fake_quantize(w: jax.Array, bits: int, *, axis: int | None = None, is_affine: bool = False) -> jax.Array:
    """What `quantize` would make of w, float32 [...], with the gradient of w itself (straight through)."""
    fixed = jax.lax.stop_gradient(w)
    if is_affine:
        low, high = fixed.min(), fixed.max()
        step = jnp.where(high > low, high - low, 1.0) / (2**bits - 1)
        rounded = jnp.round((fixed - low) / step) * step + low
    else:
        most = 2 ** (bits - 1) - 1
        shared = tuple(i for i in range(w.ndim) if axis is None or i != axis % w.ndim)
        scale = jnp.abs(fixed).max(axis=shared, keepdims=True) / most
        scale = jnp.where(scale > 0, scale, 1.0)
        rounded = jnp.clip(jnp.round(fixed / scale), -most, most) * scale
    return w + jax.lax.stop_gradient(rounded - w)


def check_bits(bits: int) -> None:
    """Refuses bits that no file is packed in."""
    if bits not in BITS:
        raise UserError(f"{bits} bits are not served; known: {', '.join(map(str, BITS))}")
