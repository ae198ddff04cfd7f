"""Parquet files are read as other tables are."""

import pyarrow
import pytest
from pyarrow import parquet

from codir_jax.data import dataset, delimited, settings, text_stream
from codir_jax.data.batch import DataError
from codir_jax.data.on_disk import tables


@pytest.fixture
def path(tmp_path):
    columns = {"sentence": ["the cat", "a dog", "no"], "label": [1, 0, 1], "id": [7, 8, 9]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def test_rows_are_those_of_the_file_and_its_classes_numbers_or_names(path):
    config = settings.default_config()
    config.update({"name": "text_classification", "train_path": str(path), "unlabelled_path": str(path)})
    raw = dataset.read(config)
    assert raw.splits["train"].texts_a == ["the cat", "a dog", "no"] and raw.splits["train"].labels == [1, 0, 1]
    assert raw.label_names == ("0", "1") and len(raw.splits["unlabelled"]) == 3
    [(_, read)] = tables.parts(path, texts=("sentence",))  # one unit, as of a .gz
    assert read([]).texts_a == ["the cat", "a dog", "no"]


def test_texts_are_read_with_their_ids(path):
    assert list(text_stream.rows(str(path), ("sentence",), "id"))[1] == (2, ("a dog",), 8)
    with pytest.raises(DataError, match=r"no column 'txt'.*--text_column"):
        list(text_stream.rows(str(path), ("txt",)))
    with pytest.raises(DataError, match="parquet:1: expected a text in column 'id', got 7"):
        list(text_stream.rows(str(path), ("id",)))


def test_a_damaged_file_a_missing_one_and_a_missing_column_are_told(path, tmp_path):
    def problems_of(name, column="sentence"):
        problems = []
        assert delimited.read_table(tmp_path / name, [column], problems) is None
        return problems

    assert (
        "no column 'sentense'; columns are sentence, label, id; did you mean" in problems_of(path.name, "sentense")[0]
    )
    assert "there is no such file; did you mean 'train.parquet'" in problems_of("tran.parquet")[0]
    content = path.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "damaged.parquet").write_bytes(content[:4] + b"\xff" * 40 + content[44:])
    assert "is no whole parquet file" in problems_of("cut.parquet")[0]
    assert "damaged" in problems_of("damaged.parquet")[0]
