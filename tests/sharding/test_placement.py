"""Between host and devices."""

import jax
import numpy as np
import pytest

from codir_jax.sharding import mesh, placement, rules


@pytest.fixture
def sharding():
    return rules.batch_sharding(mesh.make_mesh(mesh.default_config()))


def test_two_batches_are_on_the_devices_before_they_are_asked_for(sharding):
    read = []

    def batches():
        for step in range(5):
            read.append(step)
            yield {"x": np.full((8, 2), step)}

    ahead = placement.put_ahead(batches(), sharding)
    assert int(next(ahead)["x"][0, 0]) == 0
    assert read == [0, 1, 2]
    rest = list(ahead)
    assert [int(batch["x"][7, 1]) for batch in rest] == [1, 2, 3, 4]
    assert all(isinstance(batch["x"], jax.Array) and batch["x"].sharding == sharding for batch in rest)


def test_fewer_batches_than_are_put_ahead_all_come(sharding):
    assert len(list(placement.put_ahead([{"x": np.zeros((8,))}], sharding))) == 1
    assert list(placement.put_ahead([], sharding)) == []
