"""The masked softmax contrast of cosines that every contrastive method shares, and what is measured beside it.

    log( [1 +] sum_k m_k w_k exp((c_k - r) / tau) )

of an anchor's cosines c_k with its candidates, against a reference r:

    info_nce             r = cosine with the positive, which is no candidate (so 1 +), w = 1
    info_nce, hardness   the same, w_k growing with the candidate's own cosine
    supervised_contrast  r = mean cosine of the positives, which are candidates (so no 1 +), w = 1

Float32 and log space throughout: at temperature 0.07 the exponential of a raw score overflows float16 above
cosine 0.776, which is where the released code of CoDIR ran, and a weighted one at 0.05 reaches e^40.
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


def info_nce(
    positive: jax.Array,
    sources: Sequence[Negatives],
    temperature: float,
    hardness: float = 0.0,
    hardness_gradient: bool = True,
) -> jax.Array:
    """Cross entropy (nats) of picking the positive among the positive and its usable negatives.

        log(1 + sum_k m_k w_k exp((n_k - p) / tau)),   w_k = exp(h n_k / tau) / mean_j exp(h n_j / tau)

    the mean over usable negatives; h = 0 gives w = 1, van den Oord et al., 2018, equation 4. h = 1 is "HardNeg" of
    PairSupCon (Zhang et al., 2021; the weights of Robinson et al., 2021): never below h = 0, by Jensen. Computed from
    the differences, and the weights in log space: the common size of the scores cancels before any rounding. Equal
    scores give log(1 + K) for every h.

    Args:
        positive: float [B], cosine of each anchor with its own other view.
        sources: the negatives.
        temperature: tau > 0.
        hardness: h >= 0.
        hardness_gradient: whether the gradient goes through w.

    Returns:
        float32 [B]; exactly 0 with zero gradient where no negative counts.
    """
    differences = [_differences(positive, *source, temperature) for source in sources]
    if hardness:
        log_weights = _log_weights(differences, hardness)
        if not hardness_gradient:
            log_weights = [jax.lax.stop_gradient(weights) for weights in log_weights]
        differences = [of_source + weights for of_source, weights in zip(differences, log_weights, strict=True)]
    # The positive's own difference to itself, 0, is always present.
    return _log_sum(differences, jnp.zeros(jnp.shape(positive)))


def supervised_contrast(
    cosines: jax.Array, is_positive: jax.Array, is_candidate: jax.Array, temperature: float
) -> jax.Array:
    """Mean over an anchor's positives of the cross entropy (nats) of picking each among all candidates.

        -1/|P| sum_{p in P} log( exp(c_p / tau) / sum_{a in A} exp(c_a / tau) )
            = log sum_{a in A} exp((c_a - mean_{p in P} c_p) / tau)

    Equal scores give log|A|; never below log|P|, which is reached where positives are alike and all others far away.
    Reference: Khosla et al., 2020, equation 2.

    Args:
        cosines: float [B, K].
        is_positive: bool [B, K], P.
        is_candidate: bool [B, K], A; it holds P and never the anchor itself.
        temperature: tau > 0.

    Returns:
        float32 [B]; exactly 0 with zero gradient where an anchor has no positive: leave it out of the mean.
    """
    cosines = jnp.asarray(cosines, jnp.float32)
    count = jnp.sum(is_positive, axis=-1, dtype=jnp.float32)
    reference = jnp.sum(jnp.where(is_positive, cosines, 0.0), axis=-1) / jnp.maximum(count, 1.0)
    has_positive = count > 0
    differences = _differences(reference, cosines, is_candidate & has_positive[..., None], temperature)
    # The largest candidate is no smaller than the mean of some, so that 0 is a lower bound of the largest difference.
    return _log_sum([differences], jnp.where(has_positive, -jnp.inf, 0.0))


def _differences(reference, cosines, mask, temperature):
    """(c_k - r) / tau, float32 [B, K]; -inf where masked."""
    reference, cosines = jnp.asarray(reference, jnp.float32), jnp.asarray(cosines, jnp.float32)
    difference = (cosines - reference[..., None]) / temperature
    return difference if mask is None else jnp.where(mask, difference, -jnp.inf)


def _log_weights(differences, hardness):
    """Log w of each source's differences: h d - log mean exp(h d), the mean over all that are not masked."""
    count = sum(jnp.sum(jnp.isfinite(of_source), axis=-1, dtype=jnp.float32) for of_source in differences)
    top = functools.reduce(jnp.maximum, [jnp.max(of_source, axis=-1, initial=-jnp.inf) for of_source in differences])
    top = jax.lax.stop_gradient(jnp.where(count > 0, hardness * top, 0.0))
    total = sum(jnp.sum(jnp.exp(hardness * of_source - top[..., None]), axis=-1) for of_source in differences)
    log_mean = top + jnp.log(jnp.where(count > 0, total, 1.0)) - jnp.log(jnp.maximum(count, 1.0))
    # Of what is masked the difference is -inf already, and the weight finite.
    return [jnp.where(jnp.isfinite(d), hardness * d, 0.0) - log_mean[..., None] for d in differences]


def _log_sum(differences, first):
    """Log of exp(first) + sum_k exp(d_k) over all sources: float32 [B]; `first` is 0 or, for nothing, -inf [B]."""
    odds = [_odds(of_source) for of_source in differences]
    largest = functools.reduce(jnp.maximum, [top for top, _ in odds], jnp.zeros(jnp.shape(first)))
    total = jnp.exp(first - largest) + sum(part * jnp.exp(top - largest) for top, part in odds)
    return largest + jnp.log(total)


def _odds(differences):
    """(c, s) with sum_k exp(d_k) = s exp(c), c >= 0 a constant: float32 [B] each."""
    largest = jax.lax.stop_gradient(jnp.max(differences, axis=-1, initial=0.0))
    return largest, jnp.sum(jnp.exp(differences - largest[..., None]), axis=-1)


def entropy(sources: Sequence[Negatives], temperature: float) -> jax.Array:
    """Entropy (nats) of softmax(c / tau) over all usable candidates: how many an anchor still hesitates between.

    Args:
        sources: cosines float [..., K] and usable bool [..., K] of each.
        temperature: tau > 0.

    Returns:
        float32 [...], in [0, log K]; 0 without a usable candidate.
    """
    logits = [jnp.where(usable, jnp.asarray(c, jnp.float32) / temperature, -jnp.inf) for c, usable in sources]
    top = functools.reduce(jnp.maximum, [jnp.max(of_source, axis=-1, initial=-jnp.inf) for of_source in logits])
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    shares = [jnp.exp(of_source - top[..., None]) for of_source in logits]
    total = sum(jnp.sum(share, axis=-1) for share in shares)
    parts = zip(logits, shares, strict=True)
    gaps = [jnp.where(share > 0, share * (one - top[..., None]), 0.0) for one, share in parts]
    total = jnp.where(total > 0, total, 1.0)
    return jnp.log(total) - sum(jnp.sum(gap, axis=-1) for gap in gaps) / total


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
