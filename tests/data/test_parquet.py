"""Parquet files are read as other tables are."""

import pyarrow
import pytest
from pyarrow import parquet

from codir_jax.data import compressed, dataset, delimited, settings, text_stream
from codir_jax.data import parquet as parquet_lib
from codir_jax.data.data_error import DataError
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


BOMBS = {
    "a page of zeros": lambda: {"sentence": ["\0" * (1 << 20)] * 2, "label": [0, 1]},
    "a long text in every row": lambda: {"sentence": ["a" * 10_000] * 9_000, "label": [0, 1] * 4_500},
    "rows without end": lambda: {"sentence": ["a"] * 200_000, "label": [0, 1] * 100_000},
    "a long list in every row": lambda: {"sentence": [[0] * 5_000] * 200, "label": [0, 1] * 100},
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch, bomb):
    monkeypatch.setattr(compressed, "_FREE_BYTES", 1 << 16)
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(BOMBS[bomb]()), path, compression="zstd")
    assert path.stat().st_size < 1 << 15
    config = settings.default_config()
    config.update({"name": "text_classification", "train_path": str(path)})
    with pytest.raises(DataError, match=r"t\.parquet: unpacks to more than 100 times its size"):
        dataset.read(config)
    with pytest.raises(DataError, match=r"t\.parquet: unpacks to more than 100 times its size"):
        list(text_stream.rows(str(path), ("sentence",)))


def test_values_of_every_type_and_nulls_are_read_as_they_are(tmp_path):
    columns = {"a": ["x", None, "x"], "b": [1, None, 3], "c": [[1], [], None], "d": [True, False, None]}
    columns["e"] = pyarrow.array(["u", "v", "u"]).dictionary_encode()
    columns["f"] = pyarrow.array(["u", None, "w"], pyarrow.large_string())
    table = pyarrow.table(columns)
    parquet.write_table(table, tmp_path / "t.parquet")
    assert parquet_lib.read(tmp_path / "t.parquet", list(columns)) == table.to_pydict()
    assert list(parquet_lib.rows(tmp_path / "t.parquet", ["b", "a"]))[1:] == [(None, None), (3, "x")]


def test_a_label_that_is_not_a_number_is_none(tmp_path):
    """As in a DataFrame: pandas writes a missing number as NaN, which was a class of its own."""
    path, labels = tmp_path / "t.parquet", [0.0, 1.0, float("nan"), None]
    parquet.write_table(pyarrow.table({"sentence": ["a", "b", "c", "d"], "label": labels}), path)
    assert parquet_lib.read(path, ["label"]) == {"label": [0.0, 1.0, None, None]}
    assert [row.id for row in text_stream.rows(str(path), ("sentence",), "label")] == [0.0, 1.0, None, None]
    config = settings.default_config()
    config.update({"name": "text_classification", "train_path": str(path)})
    with pytest.raises(DataError, match="parquet:3: empty label"):
        dataset.read(config)


def test_bytes_that_are_no_utf_8_are_told_with_row_and_column(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_lib, "_ROWS_AT_ONCE", 2)
    path, problems = tmp_path / "t.parquet", []
    places = pyarrow.array([0, 2, 4, 6, 8], pyarrow.int32()).buffers()[1]
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 4, [None, places, pyarrow.py_buffer(b"okok\xe9aok")])
    parquet.write_table(pyarrow.table({"sentence": texts}), path)
    assert delimited.read_table(path, ["sentence"], problems) is None
    assert problems[0].startswith(f"{path}:3: bytes in column 'sentence' that are no UTF-8 (b'\\xe9a')")
    with pytest.raises(DataError, match=r"parquet:3: bytes in column 'sentence'"):
        list(text_stream.texts(str(path), "sentence"))


def test_times_that_python_has_not_are_texts(tmp_path):
    times = {
        "written": pyarrow.array([1764246645123456789, None], pyarrow.timestamp("ns")),
        "took": pyarrow.array([5, 6], pyarrow.duration("ns")),
        "until": pyarrow.array([1 << 30, 0], pyarrow.date32()),
    }
    parquet.write_table(pyarrow.table(times), tmp_path / "t.parquet")
    found = parquet_lib.read(tmp_path / "t.parquet", list(times))
    assert found["written"][1] is None and str(found["written"][0]).startswith("2025-11-27 12:30:45.123456789")
    assert len(found["took"]) == 2 and found["until"][1] == "1970-01-01"


def test_a_column_that_is_there_twice_is_refused_where_it_is_asked_for(tmp_path):
    columns = [pyarrow.array(["x", "y"]), pyarrow.array(["u", "v"]), pyarrow.array([0, 1])]
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(columns, names=["sentence", "sentence", "label"]), path)
    problems = []
    assert delimited.read_table(path, ["sentence"], problems) is None and "'sentence' is there twice" in problems[0]
    assert delimited.read_table(path, ["label"], problems).columns == {"label": [0, 1]}
    with pytest.raises(DataError, match="'sentence' is there twice"):
        list(text_stream.rows(str(path), ("sentence",)))
