"""The devices of machines that are not here; compilers that are not installed are told by name."""

import jax
import pytest

from codir_jax.plan import machines, topology
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib

has_tpu_compiler = topology.is_installed("libtpu")


def test_a_slice_is_as_near_to_a_cube_as_its_devices_allow():
    shapes = {count: topology.slice_shape(count, 2) for count in (1, 4, 8, 16, 128, 256)}
    assert shapes == {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 128: (8, 16), 256: (16, 16)}
    assert topology.slice_shape(4, 3) == (2, 2, 1)  # a host of v5p
    assert topology.slice_shape(16, 3) == (2, 2, 4)
    assert topology.slice_shape(4096, 3) == (16, 16, 16)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v5e-24", "1, 2, 4, ... 256 devices, and this has 24"),
        ("v5e-512", "and this has 512"),
        ("v5p-24", "this has 12 .v5p counts cores"),
        ("v4-8", "no compiler"),
        ("cpu-512", "xla_force_host_platform_device_count=512"),
    ],
)
def test_what_no_compiler_is_for_is_refused(name, says):
    with pytest.raises(UserError, match=says):
        topology.devices(machines.parse(name))


@pytest.mark.parametrize(("name", "extra"), [("v5e-8", "aot-tpu"), ("h100-8", "aot-gpu")])
def test_a_missing_compiler_is_told_with_what_to_install(name, extra, monkeypatch):
    monkeypatch.setattr(topology, "is_installed", lambda module: False)
    with pytest.raises(UserError, match=rf"pip install 'codir-jax\[{extra}\]'"):
        topology.devices(machines.parse(name))


def test_fake_devices_of_this_process_are_those_of_a_cpu():
    assert topology.devices(machines.parse("cpu-4")) == jax.devices()[:4]


@pytest.mark.aot
@pytest.mark.skipif(not has_tpu_compiler, reason="pip install 'codir-jax[aot-tpu]'")
@pytest.mark.parametrize(("name", "kind", "count"), [("v5e-1", "TPU v5 lite", 1), ("v5p-16", "TPU v5", 8)])
def test_a_mesh_of_devices_that_are_not_here(name, kind, count):
    found = topology.devices(machines.parse(name))
    mesh = mesh_lib.make_mesh(mesh_lib.default_config(), found)
    assert (found[0].device_kind, mesh.shape["data"]) == (kind, count)
