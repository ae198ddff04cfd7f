"""Objectives of sentence encoders and of SupCL-Seq, stopped by Ctrl-C and resumed: the same bits as a straight run."""

import pytest

from codir_jax import config as config_lib
from codir_jax.jobs.train import train
from codir_jax.processes.stop import Interrupted
from tests.stage.test_run import _assert_same_end, _final_state, _stop_after

SMALL = [
    ("data.demo_num_train", "96"),
    ("data.demo_num_triplets", "40"),
    ("data.demo_num_scored", "16"),
    ("data.demo_num_dev", "32"),
    ("train.total_steps", "8"),
    ("train.log_every_steps", "2"),
    ("train.checkpoint_every_steps", "4"),
    ("train.eval_every_steps", "4"),
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Name of a config's folder -> workdir of a model that it can go on with."""
    folder = tmp_path_factory.mktemp("teachers")
    made = {"supcl_seq": "configs/supcl_seq/contrast.py:tiny", "distill_encoder": "configs/pair_supcon/train.py:tiny"}
    for name, spec in made.items():
        train(spec, folder / name, [*SMALL, ("train.total_steps", "2")])
    return {name: str(folder / name) for name in made}


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "configs/distill_encoder/train.py:tiny",
        "configs/distill_encoder/train.py:tiny,codir",
        "configs/supcl_seq/contrast.py:tiny",
        "configs/supcl_seq/linear_head.py:tiny",
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(teachers, tmp_path, monkeypatch, spec):
    config = config_lib.load(spec, SMALL)
    if config.teacher.config:
        config.teacher.path = teachers[spec.split("/")[1]]
    train(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        _stop_after(patch, 5)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "stopped")
    assert _final_state(tmp_path / "stopped")[0] == 5
    train(config, tmp_path / "stopped")
    _assert_same_end(tmp_path / "straight", tmp_path / "stopped")
