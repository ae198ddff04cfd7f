"""A run is the same on every mesh: losses, parameters, optimizer, bank and queue, after 20 steps of CoDIR."""

import numpy as np
import pytest

from tests import commands
from tests.sharding.codir_run import trained

MESHES = [(8, 1, 1), (4, 1, 2), (2, 2, 2)]
EVERY_SOURCE = "in_batch+bank+queue"


def assert_equal_runs(ours, theirs):
    (losses, state), (their_losses, their_state) = ours, theirs
    assert np.ptp(losses) > 0.1  # it moves; with a bank that fills, the loss of more negatives may well rise
    np.testing.assert_allclose(their_losses, losses, rtol=1e-5)
    for part, their_part in zip(state, their_state, strict=True):  # parameters, optimizer, banks and queues
        largest = max((np.abs(leaf).max(initial=0) for leaf in part), default=0)  # in-batch alone keeps no state
        for a, b in zip(part, their_part, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("shape", [*(pytest.param(mesh, marks=pytest.mark.slow) for mesh in MESHES[:-1]), MESHES[-1]])
def test_a_mesh_gives_what_one_device_gives(shape):
    assert_equal_runs(trained(EVERY_SOURCE, (1, 1, 1)), trained(EVERY_SOURCE, shape))


@pytest.mark.slow
@pytest.mark.parametrize("shape", MESHES)
@pytest.mark.parametrize("source", ["in_batch", "bank", "queue", "in_batch+teacher_cache"])
def test_a_mesh_gives_what_one_device_gives_with_one_source(source, shape):
    assert_equal_runs(trained(source, (1, 1, 1)), trained(source, shape))


@pytest.mark.slow
@pytest.mark.parametrize("num_microbatches", [1, 4])
@pytest.mark.parametrize("shape", [(4, 1, 2), (2, 2, 2)])
def test_a_mesh_gives_what_one_device_gives_at_pretraining(shape, num_microbatches):
    one, parts = (trained("pre-training", mesh, num_microbatches) for mesh in ((1, 1, 1), shape))
    assert_equal_runs(one, parts)


@pytest.mark.slow
def test_a_mesh_gives_what_one_device_gives_in_microbatches():
    """With dropout; without, microbatches equal the whole batch: see tests/objectives/test_battery.py."""
    assert_equal_runs(trained(EVERY_SOURCE, (1, 1, 1), 4), trained(EVERY_SOURCE, (2, 2, 2), 4))


def of_two_processes(source, shape, folder):
    """What `trained` returns, of two processes with four devices each."""
    arguments = [source, "x".join(map(str, shape)), str(folder / "run.npz")]
    module = "tests.sharding.codir_run"
    outcomes = commands.run(arguments, folder, num_processes=2, num_devices=4, module=module)
    assert [status for status, _ in outcomes] == [0, 0], outcomes
    found = np.load(folder / "run.npz")
    names = [name.split(".") for name in found.files if "." in name]
    parts = [[found[f"{i}.{j}"] for i, j in names if i == part] for part in ("0", "1", "2")]
    return found["losses"], parts


def test_two_processes_give_what_one_device_gives(tmp_path):
    assert_equal_runs(trained(EVERY_SOURCE, (1, 1, 1)), of_two_processes(EVERY_SOURCE, (4, 2, 1), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("shape", MESHES)
@pytest.mark.parametrize("source", ["in_batch", "bank", "queue", "in_batch+teacher_cache"])
def test_two_processes_give_what_one_device_gives_with_one_source(source, shape, tmp_path):
    assert_equal_runs(trained(source, (1, 1, 1)), of_two_processes(source, shape, tmp_path))
