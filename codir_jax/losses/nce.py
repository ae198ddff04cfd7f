"""Noise-contrastive loss of the released CoDIR code, in log space, and its normaliser.

The released code scores one positive and K noise rows out of N, o = exp(cosine / tau) / Z, and asks of each
whether it is data or noise, with noise probability c = K / N (Gutmann & Hyvarinen, 2010; Tian et al., 2020).
"""

import jax
import jax.numpy as jnp

# Added to denominators by the released code (intersun/CoDIR, whose loss follows RepDistiller's ContrastLoss).
EPSILON = 1e-7


def nce(
    scores: jax.Array,
    log_normaliser: jax.Array,
    num_examples: int,
    num_negatives: int,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Released noise-contrastive loss of each example.

        L = - log( o_0 / (o_0 + c + eps) ) - sum_{j >= 1} log( c / (o_j + c + eps) )
        o = exp(s) / Z,   c = K / N,   eps = 1e-7

    Written with l = s - ln Z = ln o, and a = ln(c + eps), no raw score is ever exponentiated:

        - log(o / (o + c + eps)) = log(1 + exp(a - l)) = softplus(a - l)
        - log(c / (o + c + eps)) = log((c + eps) / c) + log(1 + exp(l - a)) = log1p(eps / c) + softplus(l - a)

    so eps enters twice: it moves the decision threshold from ln c to ln(c + eps), and it adds the constant
    log1p(eps / c) to each negative (no gradient). With eps = 0 this is -log D1 and -log D0 with
    D1 = sigmoid(s - ln Z - ln c). The released code replaced a positive o that underflowed to 0 by eps; in
    log space it does not underflow, and its gradient is kept. o = 1/N everywhere gives
    log(1 + K) + K log(1 + 1/K), up to eps.

    Args:
        scores: float [B, 1 + K], cosine / temperature; column 0 is the positive, the others noise.
        log_normaliser: float32 scalar, ln Z; a constant of the loss (no gradient).
        num_examples: N, rows from which the noise is drawn.
        num_negatives: K in c = K / N, normally scores.shape[1] - 1.
        mask: bool [B, K], True where a noise row counts; None = all do. c is not changed by it.

    Returns:
        float32 [B]; exactly 0 with zero gradient where no negative counts.
    """
    scores = jnp.asarray(scores, jnp.float32)
    if mask is not None:
        keep = jnp.concatenate([jnp.any(mask, axis=-1, keepdims=True), mask], axis=-1)
        scores = jnp.where(keep, scores, 0.0)  # a NaN or infinity under the mask must not reach the gradient
    noise = jnp.asarray(num_negatives, jnp.float32) / num_examples
    log_normaliser = jax.lax.stop_gradient(jnp.asarray(log_normaliser, jnp.float32))
    shifted = scores - log_normaliser - jnp.log(noise + EPSILON)
    terms = jnp.concatenate(
        [jax.nn.softplus(-shifted[..., :1]), jax.nn.softplus(shifted[..., 1:]) + jnp.log1p(EPSILON / noise)],
        axis=-1,
    )
    return jnp.sum(terms if mask is None else jnp.where(keep, terms, 0.0), axis=-1)


def log_normaliser_estimate(scores: jax.Array, num_examples: int, mask: jax.Array | None = None) -> jax.Array:
    """ln Z from one batch, Z = N * mean(exp(scores)), without gradient.

    Args:
        scores: float [B, 1 + K], cosine / temperature, positive and negatives alike (as released).
        num_examples: N.
        mask: bool or float, [B] (real rows) or [B, 1 + K] (entries), nonzero where a score counts.

    Returns:
        float32 scalar; ln N (as if every score were 0) when nothing counts.
    """
    scores = jax.lax.stop_gradient(jnp.asarray(scores, jnp.float32))
    keep = jnp.ones(scores.shape, bool) if mask is None else jnp.asarray(mask, bool)
    if keep.ndim == scores.ndim - 1:
        keep = jnp.broadcast_to(keep[..., None], scores.shape)
    count = jnp.sum(keep, dtype=jnp.float32)
    log_sum = jax.nn.logsumexp(jnp.where(keep, scores, -jnp.inf))
    log_mean = jnp.where(count > 0, log_sum - jnp.log(jnp.maximum(count, 1.0)), 0.0)
    return log_mean + jnp.log(jnp.asarray(num_examples, jnp.float32))


def next_log_normaliser(previous: jax.Array, estimate: jax.Array, momentum: float) -> jax.Array:
    """ln Z after a batch: the first estimate sets it, later ones enter by a moving average of Z.

        Z <- momentum * Z + (1 - momentum) * Z_batch

    momentum = 1 keeps the first batch's Z for ever (as released); 0.99 follows He et al.'s advice.

    Args:
        previous: float32 scalar, ln Z so far; -inf = not set yet.
        estimate: float32 scalar from `log_normaliser_estimate`.
        momentum: in [0, 1].

    Returns:
        float32 scalar.
    """
    previous, estimate = jnp.asarray(previous, jnp.float32), jnp.asarray(estimate, jnp.float32)
    kept = jnp.log(jnp.asarray(momentum, jnp.float32))
    taken = jnp.log1p(-jnp.asarray(momentum, jnp.float32))
    return jnp.where(jnp.isneginf(previous), estimate, jnp.logaddexp(previous + kept, estimate + taken))
