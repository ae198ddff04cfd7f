"""Meta-KD over domains (Pan et al., ACL 2021): weights by prototypes, and distances between student and teacher.

Every loss returns one value an example in float32; teacher values are targets: no gradient flows into them. With
`legacy_padding` means take padding in, as in the released code, which the golden numbers of the tests come from.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

BY = ("domain", "class")


def prototype_weights(
    vectors: np.ndarray,
    domains: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    by: str = "domain",
    centred: bool = False,
) -> np.ndarray:
    """How typical each example is of its domain and of the others: float64 [n].

        by "domain" (released):  t_i = 1/2 cos(e_i, c_k) + 1/2 cos(e_i, mean of the other domains' c)
        by "class" (paper):      t_i = 1/2 cos(e_i, p_ky) + 1/2 (mean over k' != k of cos(e_i, p_k'y))

    c_k is the mean vector of domain k, p_ky that of its examples of class y. The mean is over the domains that have the
    class, and 0 where no other has it; an example without a class takes the first form.

    Args:
      vectors: float [n, width], of an encoder that was not fine-tuned on the task.
      domains: int [n]. classes: int [n], -1 for none; None where no example has one.
      centred: the mean of all vectors is taken off first (ours): where all cosines are near 1 they tell nothing. With
        by "class" only: by "domain" the two parts then cancel, exactly where domains are of one size.
    """
    if by not in BY:
        raise ValueError(f"by={by!r}; known: {', '.join(BY)}")
    if centred and by == "domain":
        raise ValueError("centred weights need by='class'")
    vectors = np.asarray(vectors, np.float64)
    if centred:
        vectors = vectors - vectors.mean(axis=0)
    numbers = np.unique(domains)
    centroids = np.stack([vectors[domains == k].mean(axis=0) for k in numbers])
    rest = np.stack([np.delete(centroids, row, axis=0).mean(axis=0) for row in range(len(numbers))])
    place = np.searchsorted(numbers, domains)
    weights = (_cosine(vectors, centroids[place]) + _cosine(vectors, rest[place])) / 2
    if by == "domain" or classes is None:
        return weights
    for label in np.unique(classes[classes >= 0]):
        of_class = classes == label
        prototypes = {k: vectors[of_class & (domains == k)].mean(axis=0) for k in np.unique(domains[of_class])}
        for k in prototypes:
            rows = np.flatnonzero(of_class & (domains == k))
            far = [_cosine(vectors[rows], other[None]) for name, other in prototypes.items() if name != k]
            weights[rows] = (_cosine(vectors[rows], prototypes[k][None]) + np.mean(far or [0.0], axis=0)) / 2
    return weights


def content_mean(states: jax.Array, mask: jax.Array, legacy_padding: bool = False) -> jax.Array:
    """Mean over the tokens after the first, float32 [batch, width].

    Args:
      states: float [batch, tokens, width]. mask: int32 [batch, tokens].
    """
    is_counted = jnp.ones_like(mask) if legacy_padding else mask
    is_counted = is_counted[:, 1:, None].astype(jnp.float32)
    return (states[:, 1:].astype(jnp.float32) * is_counted).sum(1) / jnp.maximum(is_counted.sum(1), 1.0)


def difficulty_weight(weights: jax.Array, probability: jax.Array) -> jax.Array:
    """lambda = (1 + t) / (exp((1 - p)^2) + 1), float32 [batch]: near (1 + t) / 2 where the teacher is right and sure.

    Args:
      weights: t, float [batch]. probability: p, the teacher's of the true class, float [batch].
    """
    wrong = jnp.square(1.0 - probability.astype(jnp.float32))
    return jax.lax.stop_gradient((1.0 + weights.astype(jnp.float32)) / (jnp.exp(wrong) + 1.0))


def attention_distance(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array], mask: jax.Array, legacy_padding: bool = False
) -> jax.Array:
    """Sum over matched layers of the mean squared difference of raw attention scores, float32 [batch].

    Args:
      student, teacher: float32 [batch, heads, queries, keys] a layer, before the mask and the softmax.
      mask: int32 [batch, tokens]. Keys that are padding count 0.
      legacy_padding: the mean is over all queries and keys, not over the real ones.
    """
    mask = mask.astype(jnp.float32)
    keys = mask[:, None, None, :]
    pairs = jnp.broadcast_to(keys, (len(mask), 1, mask.shape[1], mask.shape[1]))
    counted = jnp.ones_like(pairs) if legacy_padding else pairs * mask[:, None, :, None]
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        squares = jnp.square((ours - jax.lax.stop_gradient(theirs)) * keys)
        total += (squares.mean(axis=1, keepdims=True) * counted).sum((1, 2, 3)) / jnp.maximum(
            counted.sum((1, 2, 3)), 1.0
        )
    return total


def hidden_distance(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array], mask: jax.Array, legacy_padding: bool = False
) -> jax.Array:
    """Sum over matched layers of the mean squared difference of hidden states, float32 [batch].

    Args:
      student, teacher: float [batch, tokens, width] a layer, of one width.
      mask: int32 [batch, tokens].
    """
    counted = jnp.ones(mask.shape, jnp.float32) if legacy_padding else mask.astype(jnp.float32)
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        squares = jnp.square(ours.astype(jnp.float32) - jax.lax.stop_gradient(theirs.astype(jnp.float32)))
        total += (squares.mean(-1) * counted).sum(-1) / jnp.maximum(counted.sum(-1), 1.0)
    return total


def feature_distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean squared difference of two vectors an example, float32 [batch]."""
    difference = student.astype(jnp.float32) - jax.lax.stop_gradient(teacher.astype(jnp.float32))
    return jnp.square(difference).mean(-1)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(size, 1e-12)
