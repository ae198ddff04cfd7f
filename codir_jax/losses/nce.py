"""Noise-contrastive estimation (NCE): scores trained by telling data from samples of a known noise distribution.

One function, `nce`, has ln q of every sample. The released CoDIR code calls it with q = 1/N (`released_nce`), a
language model with a unigram q over words (`word_scores`) or an n-gram q over whole sentences (Gutmann & Hyvarinen,
JMLR 2012; Mnih & Teh, arXiv 1206.6426; He et al., arXiv 1602.06064).
"""

import math

import jax
import jax.numpy as jnp

from codir_jax.linalg.logits import logits

# Added to denominators by the released code (intersun/CoDIR, whose loss follows RepDistiller's ContrastLoss).
EPSILON = 1e-7


def nce(
    scores: jax.Array,
    log_noise: jax.Array | float,
    num_noise: int,
    mask: jax.Array | None = None,
    *,
    epsilon: float = 0.0,
) -> jax.Array:
    """Noise-contrastive loss of each data sample and the noise that belongs to it.

        L = - log( p_0 / (p_0 + k q_0 + eps) ) - sum_{j >= 1} log( k q_j / (p_j + k q_j + eps) ),   p = exp(s)

    Written with a = ln(k q + eps), no score is ever exponentiated:

        - log(p / (p + k q + eps)) = log(1 + exp(a - s)) = softplus(a - s)
        - log(k q / (p + k q + eps)) = log((k q + eps) / (k q)) + log(1 + exp(s - a))
                                     = log1p(eps / (k q)) + softplus(s - a)

    With eps = 0 it is -log sigmoid(D_0) - sum_j log sigmoid(-D_j), D = s - ln q - ln k. Over data from p* its minimum
    is s = ln p*, whatever q is > 0 where p* is: the score needs no normaliser. s = ln q everywhere gives
    log(1 + k) + k log(1 + 1/k). An eps > 0 moves the threshold, and adds a constant to each noise sample.

    A score in the residual form, s = ln q + g, needs no ln q at all: `nce(g, 0.0, num_noise)`.

    Args:
        scores: float [..., 1 + K]; column 0 is of the data, the others are of noise.
        log_noise: ln q of each, nats, float that broadcasts to `scores`; over what noise is drawn from, q sums to 1.
        num_noise: k, noise samples for each data sample; normally K.
        mask: bool [..., K], True where a noise sample counts; None = all do. k is not changed by it.
        epsilon: eps.

    Returns:
        float32 [...], nats; exactly 0 with zero gradient where no noise sample counts.
    """
    scores = jnp.asarray(scores, jnp.float32)
    if mask is not None:
        keep = jnp.concatenate([jnp.any(mask, axis=-1, keepdims=True), mask], axis=-1)
        scores = jnp.where(keep, scores, 0.0)  # a NaN or infinity under the mask must not reach the gradient
    threshold = jnp.asarray(log_noise, jnp.float32) + math.log(num_noise)
    constant = jnp.zeros_like(threshold)
    if epsilon:
        threshold, constant = jnp.logaddexp(threshold, math.log(epsilon)), jnp.log1p(epsilon * jnp.exp(-threshold))
    shifted = scores - threshold
    constant = jnp.broadcast_to(constant, scores.shape)[..., 1:]
    terms = jnp.concatenate([jax.nn.softplus(-shifted[..., :1]), jax.nn.softplus(shifted[..., 1:]) + constant], axis=-1)
    return jnp.sum(terms if mask is None else jnp.where(keep, terms, 0.0), axis=-1)


def sampled_softmax(scores: jax.Array, log_noise: jax.Array) -> jax.Array:
    """Cross entropy of the data sample among itself and its noise, with logits s - ln q (Jean et al., arXiv 1412.2007).

    Args:
        scores, log_noise: as of `nce`.

    Returns:
        float32 [...], nats.
    """
    corrected = jnp.asarray(scores, jnp.float32) - log_noise
    return jax.nn.logsumexp(corrected, axis=-1) - corrected[..., 0]


def word_scores(
    states: jax.Array,
    target_rows: tuple[jax.Array, jax.Array],
    noise_rows: tuple[jax.Array, jax.Array],
    norm: float,
) -> jax.Array:
    """Scores v_w . h + b_w - norm of each target and of noise words that all positions share: one matrix product.

    Args:
        states: float [..., H], h; their dtype is that of the products.
        target_rows: v float [..., H] and b float [...] of the target of each position.
        noise_rows: v float [K, H] and b float [K] of the noise words.
        norm: what stands for ln Z_h: ln V ("auto" in the literature), or 9 for V = 10,000.

    Returns:
        float32 [..., 1 + K], as `nce` takes them.
    """
    table, bias = target_rows
    own = jnp.sum((states * table.astype(states.dtype)).astype(jnp.float32), axis=-1) + bias
    table, bias = noise_rows
    shared = logits(states, table) + bias
    return jnp.concatenate([own[..., None], shared], axis=-1) - norm


def released_nce(
    scores: jax.Array,
    log_normaliser: jax.Array,
    num_examples: int,
    num_negatives: int,
    mask: jax.Array | None = None,
) -> jax.Array:
    """`nce` as the released CoDIR code has it: one positive and K noise rows out of N, q = 1/N, eps = 1e-7.

    There p = exp(cosine / tau) / Z, a constant Z (Tian et al., arXiv 1910.10699). The released code replaced a positive
    p that underflowed to 0 by eps; in log space it does not underflow, and its gradient is kept.

    Args:
        scores: float [B, 1 + K], cosine / temperature; column 0 is the positive, the others noise.
        log_normaliser: float32 scalar, ln Z; a constant of the loss (no gradient).
        num_examples: N, rows from which the noise is drawn.
        num_negatives: K in k q = K / N, normally scores.shape[1] - 1.
        mask: bool [B, K], True where a noise row counts; None = all do.

    Returns:
        float32 [B]; exactly 0 with zero gradient where no negative counts.
    """
    log_normaliser = jax.lax.stop_gradient(jnp.asarray(log_normaliser, jnp.float32))
    scores = jnp.asarray(scores, jnp.float32) - log_normaliser
    return nce(scores, -math.log(num_examples), num_negatives, mask, epsilon=EPSILON)


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
