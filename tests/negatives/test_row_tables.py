"""Tables with a row for each train row: made in parts, placed by rows, read by id."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from codir_jax.negatives import row_tables, sampling
from codir_jax.negatives.row_tables import RowTable
from codir_jax.sharding import mesh as meshes
from codir_jax.sharding import rules

NUM_TRAIN = 3000


def _table(asked):
    def read(start, stop):
        asked.append((start, stop))
        return np.stack([np.arange(start, stop), -np.arange(start, stop)], axis=1)

    return RowTable(NUM_TRAIN, (2,), np.int32, -7, read)


def test_a_device_gets_its_rows_and_nobody_asks_for_more():
    mesh, asked = meshes.make_mesh(ConfigDict({"data": 2, "fsdp": 2, "model": 2})), []
    places = rules.shardings(row_tables.stand_in(NUM_TRAIN, 2), mesh)
    placed = _table(asked).placed(places)
    assert placed.shape[0] == row_tables.num_rows(NUM_TRAIN) > NUM_TRAIN and placed.shape[0] % 8 == 0
    assert {shard.data.shape[0] for shard in placed.addressable_shards} == {placed.shape[0] // 8}
    assert max(stop - start for start, stop in asked) <= placed.shape[0] // 8
    whole = np.asarray(placed)
    assert (whole[:NUM_TRAIN, 0] == np.arange(NUM_TRAIN)).all() and (whole[NUM_TRAIN:] == -7).all()

    ids = np.array([[0, 1, NUM_TRAIN - 1], [NUM_TRAIN, 2, 10**9]], np.int32)
    with rules.on_mesh(mesh):
        found = jax.jit(row_tables.look_up)(placed, ids)
    assert np.asarray(found)[..., 0].tolist() == [[0, 1, NUM_TRAIN - 1], [-7, 2, -7]]


@pytest.mark.parametrize("at_once", [1000, 7])
def test_rows_by_class_are_a_stable_sort_whatever_part_is_asked_for(at_once, monkeypatch):
    monkeypatch.setattr(sampling, "_LABELS_AT_ONCE", at_once)
    labels = np.random.default_rng(0).integers(-1, 4, 200).astype(np.int32)
    expected = np.argsort(np.where(labels < 0, 4, labels), kind="stable")
    starts = sampling.class_starts(labels)
    assert starts.tolist() == [0, *np.cumsum(np.bincount(labels + 1)[[1, 2, 3, 4, 0]]).tolist()]
    np.testing.assert_array_equal(sampling.rows_by_class(labels, starts), expected)
    np.testing.assert_array_equal(sampling.rows_by_class(labels, starts, 30, 171), expected[30:171])
