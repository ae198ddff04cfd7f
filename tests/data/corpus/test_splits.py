"""Documents held out."""

from codir_jax.data.corpus import splits


def test_held_out_documents_are_spread_evenly():
    assert splits.held_out(100, 3.0).tolist() == [16, 50, 83]
    assert splits.held_out(5, 1.0).tolist() == [2]  # one at least
    assert len(splits.held_out(3, 99.0)) == 2  # and one is left
