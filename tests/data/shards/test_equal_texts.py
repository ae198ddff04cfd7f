"""Equal texts found without holding all hashes at once."""

import numpy as np
import pytest

from codir_jax.data.shards import equal_texts


@pytest.mark.parametrize("at_once", [1000, 64, 7])
def test_the_numbers_are_the_same_in_memory_and_in_parts(at_once, tmp_path):
    rng = np.random.default_rng(0)
    hashes = rng.choice(rng.integers(0, 2**64, 40, dtype=np.uint64), 300)
    found = np.zeros(300, np.int32)
    equal_texts.numbers(hashes, found, tmp_path, at_once=at_once)
    assert found.tolist() == [hashes.tolist().index(value) for value in hashes.tolist()]
    assert not list(tmp_path.iterdir())
