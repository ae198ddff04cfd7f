"""A train set by its sizes: what is not modelled is said so."""

import pytest

from codir_jax import config as config_lib
from codir_jax.data import dataset
from codir_jax.data.sets import glue
from codir_jax.data.sets.contract import RawData
from codir_jax.data.splits import RawSplit
from codir_jax.tasks import labelled_outline


def test_several_texts_a_row_are_not_modelled(monkeypatch):
    rows = RawSplit(["a", "b"], None, [0, 1], (["c", "d"],))
    monkeypatch.setattr(dataset, "read", lambda _: RawData({"train": rows}, ("no", "yes"), False, ("accuracy",)))
    config = config_lib.load("configs/codir/finetune_distill.py:tiny", [])
    with pytest.raises(ValueError, match="demo has several texts a row, and what they cost is not modelled"):
        labelled_outline.outline(config, 0, 0, None, "cpu")


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        ((), (0, 0), (8551, 128, 2)),
        ((), (0, 16), (8551, 16, 2)),
        ((), (500, 0), (500, 128, 2)),
        ((("data.num_train_examples", "100"), ("data.max_length", "64")), (0, 0), (100, 64, 2)),
        ((("data.name", "stsb"),), (0, 0), (5749, 128, 1)),
    ],
)
def test_a_plan_downloads_nothing(changes, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "read", lambda _: pytest.fail("data were read"))
    own = [("data.tfds_data_dir", str(tmp_path)), *changes]
    config = config_lib.load("configs/codir/finetune_distill.py:cola", own)
    found = labelled_outline.outline(config, *arguments, None, "cpu")
    assert (found.num_train, found.longest, found.head.num_labels) == expected
    assert "not on this machine" in found.told


def test_the_sizes_of_glue_are_of_all_trainable_tasks():
    assert set(glue.NUM_TRAIN) == set(glue.TRAINABLE_TASKS)
