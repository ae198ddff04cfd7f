"""Documents held out, and equal chunks found without holding all hashes at once."""

import numpy as np
import pytest

from codir_jax.data.corpus import splits


def test_held_out_documents_are_spread_evenly():
    assert splits.held_out(100, 3.0).tolist() == [16, 50, 83]
    assert splits.held_out(5, 1.0).tolist() == [2]  # one at least
    assert len(splits.held_out(3, 99.0)) == 2  # and one is left


@pytest.mark.parametrize("at_once", [1000, 64, 7])
def test_equal_text_ids_are_the_same_in_memory_and_in_parts(at_once, tmp_path):
    rng = np.random.default_rng(0)
    hashes = rng.choice(rng.integers(0, 2**64, 40, dtype=np.uint64), 300)
    found = np.zeros(300, np.int32)
    splits.equal_text_ids(hashes, found, tmp_path, at_once=at_once)
    assert found.tolist() == [hashes.tolist().index(value) for value in hashes.tolist()]
    assert not list(tmp_path.iterdir())
