"""Words drawn by the alias method have their probabilities, rare ones too."""

import jax
import numpy as np
import pytest

from codir_jax.negatives import unigram


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_the_table_gives_every_word_its_probability(size):
    probabilities = np.random.default_rng(0).pareto(1.0, size) + 1e-4
    probabilities /= probabilities.sum()
    table = unigram.alias_table(probabilities)
    keep, alias = np.asarray(table.keep, np.float64), np.asarray(table.alias)
    found = keep / size
    np.add.at(found, alias, (1 - keep) / size)
    np.testing.assert_allclose(found, probabilities, atol=1e-7 / size, rtol=1e-6)


def test_draws_follow_the_table():
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = np.asarray(unigram.draw(jax.random.key(0), unigram.alias_table(probabilities), 100_000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 1e5, probabilities, atol=5e-3)
