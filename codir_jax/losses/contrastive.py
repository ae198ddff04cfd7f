"""InfoNCE from cosine scores, and what is measured beside it: retrieval, alignment, uniformity.

Float32 and log space throughout: at temperature 0.07 the exponential of a raw score overflows float16 above
cosine 0.776, which is where the released code ran.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def unit_rows(features: jax.Array) -> jax.Array:
    """Features scaled to unit length along the last axis, float32.

    Args:
        features: float [..., D].

    Returns:
        float32 [..., D]; a zero row stays zero and gets a zero gradient instead of NaN.
    """
    features = jnp.asarray(features, jnp.float32)
    square = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    is_zero = square == 0.0
    return jnp.where(is_zero, 0.0, features / jnp.sqrt(jnp.where(is_zero, 1.0, square)))


# Negatives of one source: (cosines float [B, K] of each anchor with them, usable bool [B, K], None = all are). A masked
# cosine may even be NaN. Sources stay apart, as each may lie on the devices in its own way.
Negatives = tuple[jax.Array, jax.Array | None]


def info_nce(positive: jax.Array, sources: Sequence[Negatives], temperature: float) -> jax.Array:
    """Cross entropy (nats) of picking the positive among the positive and its usable negatives.

        -log( exp(p / tau) / (exp(p / tau) + sum_k m_k exp(n_k / tau)) )
            = log(1 + sum_k m_k exp((n_k - p) / tau))

    computed from the differences: the common size of the scores cancels before any rounding. Equal scores
    give log(1 + K). Reference: van den Oord et al., 2018, equation 4.

    Args:
        positive: float [B], cosine of each anchor with its own other view.
        sources: the negatives.
        temperature: tau > 0.

    Returns:
        float32 [B]; exactly 0 with zero gradient where no negative counts.
    """
    odds = [_odds(positive, *source, temperature) for source in sources]
    # The positive's own difference to itself, 0, is always present: exp(0) / exp(largest).
    largest = functools.reduce(jnp.maximum, [top for top, _ in odds], jnp.zeros(jnp.shape(positive)))
    total = jnp.exp(-largest) + sum(part * jnp.exp(top - largest) for top, part in odds)
    return largest + jnp.log(total)


def _odds(positive, negatives, mask, temperature):
    """(c, s) with sum_k m_k exp((n_k - p) / tau) = s exp(c), c >= 0 a constant: float32 [B] each."""
    positive, negatives = jnp.asarray(positive, jnp.float32), jnp.asarray(negatives, jnp.float32)
    difference = (negatives - positive[..., None]) / temperature
    if mask is not None:
        difference = jnp.where(mask, difference, -jnp.inf)
    largest = jax.lax.stop_gradient(jnp.max(difference, axis=-1, initial=0.0))
    return largest, jnp.sum(jnp.exp(difference - largest[..., None]), axis=-1)


def ranks_first(positive: jax.Array, sources: Sequence[Negatives]) -> jax.Array:
    """1 where the positive scores strictly above every usable negative, else 0.

    A tie is a 0, so collapsed features (all scores equal) read as failure. A row without any usable negative
    is a 1: leave such rows out of the mean.

    Args:
        positive: float [B].
        sources: the negatives.

    Returns:
        float32 [B] of 0 and 1.
    """
    is_first = jnp.ones(jnp.shape(positive), bool)
    for negatives, mask in sources:
        is_below = negatives < positive[..., None]
        is_first &= jnp.all(is_below if mask is None else is_below | ~mask, axis=-1)
    return is_first.astype(jnp.float32)


def alignment(v_s: jax.Array, v_t: jax.Array) -> jax.Array:
    """Squared distance of the two views of each example; 0 is best.

    Reference: Wang & Isola, 2020, equation 4 with alpha = 2.

    Args:
        v_s: float [B, D], unit rows (student).
        v_t: float [B, D], unit rows (teacher).

    Returns:
        float32 [B], in [0, 4].
    """
    return jnp.sum(jnp.square(jnp.asarray(v_s, jnp.float32) - jnp.asarray(v_t, jnp.float32)), axis=-1)


def uniformity(v: jax.Array, mask: jax.Array, keys: jax.Array, key_mask: jax.Array) -> jax.Array:
    """Log of the mean Gaussian potential over distinct real pairs; lower is more spread out, 0 is collapse.

        log mean_{i != j} exp(-2 ||v_i - v_j||^2)

    Reference: Wang & Isola, 2020, equation 5 with t = 2.

    Args:
        v: float [B, D], unit rows.
        mask: bool or float [B], nonzero where the row is real.
        keys, key_mask: the same rows and mask again; they may lie elsewhere on the devices.

    Returns:
        float32 scalar in [-8, 0]; 0 when fewer than two rows are real.
    """
    is_real, is_real_key = jnp.asarray(mask, bool), jnp.asarray(key_mask, bool)
    v = jnp.where(is_real[:, None], jnp.asarray(v, jnp.float32), 0.0)
    keys = jnp.where(is_real_key[:, None], jnp.asarray(keys, jnp.float32), 0.0)
    is_pair = is_real[:, None] & is_real_key[None, :] & ~jnp.eye(v.shape[0], dtype=bool)
    cosine = jnp.matmul(v, keys.T, precision=jax.lax.Precision.HIGHEST)
    square, key_square = (jnp.sum(jnp.square(x), axis=-1) for x in (v, keys))
    distance = jnp.maximum(square[:, None] + key_square[None, :] - 2.0 * cosine, 0.0)
    # Exponents lie in [-8, 0]: a plain exp is safe here, and the empty mean is easy to define.
    total = jnp.sum(jnp.where(is_pair, jnp.exp(-2.0 * distance), 0.0))
    count = jnp.sum(is_pair, dtype=jnp.float32)
    return jnp.log(jnp.where(count > 0, total / jnp.maximum(count, 1.0), 1.0))
