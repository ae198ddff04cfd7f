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
    ("asked", "shape"),
    [
        ((-1, 1, 1), (8, 1, 1)),
        ((-1, 1, 2), (4, 1, 2)),
        ((2, 1, -1), (2, 1, 4)),
        ((1, -1, 1), (1, 8, 1)),
        ((2, 2, 2), (2, 2, 2)),
    ],
)
def test_sizes_make_the_mesh(asked, shape):
    mesh = meshes.make_mesh(sizes(**dict(zip(rules.MESH_AXES, asked, strict=True))))
    assert tuple(mesh.shape[axis] for axis in ("data", "fsdp", "model")) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert rules.num_batch_shards(mesh) == shape[0] * shape[1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((-1, 1, 3), r"mesh.model=3 does not divide the 8 device\(s\); sizes that do: \[1, 2, 4, 8\]"),
        ((0, 1, 1), r"mesh.data is 0; expected -1"),
        ((-1, 1, -1), "mesh.data and mesh.model are -1"),
        ((2, 1, 2), "data=2 x fsdp=1 x model=2 does not make up the 8 .*that do: 1x1x8, 1x2x4"),
        ((-1, 4, 4), "data=-1 x fsdp=4 x model=4 does not make up the 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(asked, message):
    with pytest.raises(ValueError, match=message):
        meshes.make_mesh(sizes(**dict(zip(rules.MESH_AXES, asked, strict=True))))


def test_a_mesh_of_some_devices():
    assert meshes.make_mesh(sizes(), jax.devices()[:2]).shape["data"] == 2


def test_rules_of_a_config():
    config = sizes()
    config.rules.embed = "data"
    assert dict(meshes.rules_of(config))["embed"] == "data"
    assert meshes.rules_of(sizes()) == rules.RULES
