"""A train set by its sizes: what is not modelled is said so."""

import pytest

from codir_jax import config as config_lib
from codir_jax.data import dataset
from codir_jax.data.batch import RawSplit
from codir_jax.data.sets.contract import RawData
from codir_jax.tasks import labelled_outline


def test_several_texts_a_row_are_not_modelled(monkeypatch):
    rows = RawSplit(["a", "b"], None, [0, 1], (["c", "d"],))
    monkeypatch.setattr(dataset, "read", lambda _: RawData({"train": rows}, ("no", "yes"), False, ("accuracy",)))
    config = config_lib.load("configs/codir/finetune_distill.py:tiny", [])
    with pytest.raises(ValueError, match="demo has several texts a row, and what they cost is not modelled"):
        labelled_outline.outline(config, 0, 0, None)
