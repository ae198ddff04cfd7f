"""Distances in the scores of an attention: buckets by hand, sums over pairs in numpy, gradients of both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models import disentangled


def test_buckets_of_a_small_table_by_hand():
    # span 8: m = 4; up to 4 alone, then 4 + ceil(3 ln(d / 4) / ln(43 / 4)), so 5 to 8 share a step: 3 ln 2 / 2.375 < 1.
    found = disentangled.buckets(np.array([0, 1, 4, 5, 8, 9, 19, 20, 43, 44, -1, -4, -5, -43, -60]), 8, 44)
    assert found.tolist() == [8, 9, 12, 13, 13, 14, 14, 15, 15, 15, 7, 4, 3, 1, 0]


def test_buckets_of_published_models():
    """128 alone on each side, the last of 512 tokens in the last row but one; of transformers' deberta_v2."""
    found = disentangled.buckets(np.array([127, 128, 129, 200, 255, 256, 383, 511, -129, -511]), 256, 512)
    assert found.tolist() == [383, 384, 385, 425, 448, 448, 485, 511, 127, 1]


def test_a_table_for_longer_texts_than_the_model_takes_gives_each_distance_its_own_row():
    assert disentangled.buckets(np.arange(-3, 4), 6, 4).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert disentangled.buckets(np.arange(-3, 4), 256, 4).tolist() == list(range(253, 260))


def arrays(batch=2, heads=3, length=6, size=4, seed=0):
    draw = np.random.default_rng(seed).normal
    of_tokens = [draw(size=(batch, heads, length, size)).astype(np.float32) for _ in range(2)]
    return of_tokens + [draw(size=(2 * length - 1, heads, size)).astype(np.float32) for _ in range(2)]


def by_pairs(query, key, query_of, key_of):
    length, size = query.shape[2:]
    made = np.zeros((*query.shape[:2], length, length))
    for i in range(length):
        for j in range(length):
            row = length - 1 - (i - j)  # distances run from the largest down
            made[..., i, j] = (query[:, :, i] * key_of[row]).sum(-1) + (key[:, :, j] * query_of[row]).sum(-1)
    return made / np.sqrt(3 * size)


def test_what_is_added_equals_the_sum_over_pairs():
    np.testing.assert_allclose(jax.jit(disentangled.added)(*arrays()), by_pairs(*arrays()), atol=2e-6)


@pytest.mark.parametrize("which", range(4))
def test_gradients_equal_those_of_the_sum_over_pairs(which):
    """The sum is linear in each of the four: its derivative is its value in that direction."""
    given, other = arrays(), arrays(seed=1)[which]
    weights = np.random.default_rng(2).normal(size=(2, 3, 6, 6))
    loss = lambda one: jnp.sum(weights * disentangled.added(*given[:which], one, *given[which + 1 :]))  # noqa: E731
    _, found = jax.jvp(loss, (given[which],), (other,))
    moved = [x.astype(np.float64) for x in given]
    moved[which] = moved[which] + other
    np.testing.assert_allclose(found, (weights * (by_pairs(*moved) - by_pairs(*given))).sum(), rtol=1e-4)
