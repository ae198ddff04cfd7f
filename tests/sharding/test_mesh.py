"""Mesh sizes, on 8 fake devices."""

import jax
import pytest
from jax.sharding import AxisType

from codir_jax.sharding import mesh as meshes
from codir_jax.sharding import rules


def sizes(**fields):
    config = meshes.default_config()
    config.update(fields)
    return config


@pytest.mark.parametrize(
    ("data", "model", "shape"), [(-1, 1, (8, 1)), (-1, 2, (4, 2)), (2, -1, (2, 4)), (8, 1, (8, 1)), (2, 4, (2, 4))]
)
def test_sizes_make_the_mesh(data, model, shape):
    mesh = meshes.make_mesh(sizes(data=data, model=model))
    assert tuple(mesh.shape[axis] for axis in ("data", "model")) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert rules.num_batch_shards(mesh) == shape[0]


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (-1, 3, r"mesh.model=3 does not divide the 8 device\(s\); sizes that do: \[1, 2, 4, 8\]"),
        (0, 1, r"mesh.data is 0; expected -1"),
        (-1, -1, "both -1"),
        (2, 2, "uses 4 of 8 devices; data x model that fit: 1x8, 2x4, 4x2, 8x1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(data, model, message):
    with pytest.raises(ValueError, match=message):
        meshes.make_mesh(sizes(data=data, model=model))


def test_a_mesh_of_some_devices():
    assert meshes.make_mesh(sizes(), jax.devices()[:2]).shape["data"] == 2


def test_rules_of_a_config():
    config = sizes()
    config.rules.embed = "data"
    assert dict(meshes.rules_of(config))["embed"] == "data"
    assert meshes.rules_of(sizes()) == rules.RULES
