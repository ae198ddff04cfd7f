"""A unit of rows as a shard: their tokens in one file, their facts in tables.

    tokens.bin         row after row: the ids of its text or pair, little-endian uint16 or uint32; their types, int8,
                       where the model has any; the CRC-32 of all that, uint32
    rows.npy           ROW [n]
    column-NAME.npy    a further column: class numbers of this unit, or numbers

array_record, which keeps a corpus, took 2 to 8 ms for 32 rows of 20 tokens, 93 bytes for 40, and 8 bytes of memory a
row; this file takes 0.1 ms, a tenth more than the tokens, and none.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codir_jax.data import numbered, table_labels
from codir_jax.data.on_disk.encoding import Encoding
from codir_jax.data.on_disk.streamed import Unit
from codir_jax.data.shards import folder as shard_folder
from codir_jax.data.splits import RawSplit
from codir_jax.processes.user_error import CannotWriteError

# Bytes of the row's record, its tokens, whether it was cut, class in this unit or target, 64-bit hash of its texts.
ROW = np.dtype([("size", "<i4"), ("length", "<i4"), ("cut", "?"), ("label", "<f8"), ("hash", "<u8")])
TOKENS_FILE, ROWS_FILE = "tokens.bin", "rows.npy"
_CRC_BYTES = 4


def write(unit: Unit, folder: Path, encoding: Encoding, is_regression: bool) -> list[str]:
    """Reads and tokenises a unit into `folder`/unit.name.

    Returns:
      Problems of the text; with any, nothing is written.
    """
    return shard_folder.write(folder, unit.name, functools.partial(_fill, unit, encoding, is_regression))


def _fill(unit: Unit, encoding: Encoding, is_regression: bool, place: Path) -> dict | list[str]:
    problems: list[str] = []
    rows = unit.read(problems)
    if problems:
        return problems
    tokens, types, offsets, is_cut = encoding.encode(rows.texts_a, rows.texts_b)
    table = np.zeros(len(rows), ROW)
    digest = hashlib.sha256()
    with (place / TOKENS_FILE).open("wb") as file:
        for row, record in enumerate(_records(tokens, types, offsets, encoding)):
            table["size"][row] = len(record)
            file.write(record)
            digest.update(record)
        file.flush()
        if file.tell() != int(table["size"].sum(dtype=np.int64)):
            raise CannotWriteError(f"{place / TOKENS_FILE} is not whole after writing; is the disk full?")
    table["length"], table["cut"], table["hash"] = np.diff(offsets), is_cut, hashes(rows)
    names: list[str] = []
    if rows.labels is not None and is_regression:
        table["label"] = rows.labels
    elif rows.labels is not None:
        of_rows = [table_labels.class_name(label) for label in rows.labels]
        names = sorted(set(of_rows))
        number = {name: i for i, name in enumerate(names)}
        table["label"] = [number[name] for name in of_rows]
    np.save(place / ROWS_FILE, table)
    columns = {}
    for name, values in rows.columns.items():
        known = sorted(set(values)) if numbered.are_texts(name, "train", values) else None
        as_array = numbered.as_numbers if known is None else functools.partial(numbered.as_classes, names=tuple(known))
        array = as_array(name, "train", values)
        np.save(place / column_file(name), array)
        columns[name] = {"names": known, "dtype": array.dtype.str, "shape": array.shape[1:]}
        digest.update(array.tobytes())
    digest.update(table.tobytes())
    return {
        "num_rows": len(rows),
        "has_labels": rows.labels is not None,
        "num_bytes": int(table["size"].sum(dtype=np.int64)),
        "num_tokens": int(offsets[-1]),
        "longest": int(table["length"].max(initial=1)),
        "label_names": names,
        "label_kinds": [] if is_regression else table_labels.kinds(rows.labels or ()),
        "label_range": [float(min(rows.labels)), float(max(rows.labels))] if is_regression and rows.labels else [],
        "columns": columns,
        "digest": digest.hexdigest(),
    }


def column_file(name: str) -> str:
    """The file of a further column."""
    return f"column-{name}.npy"


def _records(tokens, types, offsets, encoding: Encoding):
    ids = tokens.astype(encoding.dtype)
    for start, end in itertools.pairwise(offsets):
        part = slice(start, end)
        record = ids[part].tobytes()
        if encoding.has_types:
            record += types[part].tobytes()
        yield record + zlib.crc32(record).to_bytes(_CRC_BYTES, "little")


def parse(record: bytes, dtype: np.dtype, has_types: bool) -> tuple[int, bytes, bytes] | None:
    """Returns what a record holds, None where it is damaged: (number of its tokens, bytes of ids, of types)."""
    body, crc = record[:-_CRC_BYTES], record[-_CRC_BYTES:]
    if len(crc) < _CRC_BYTES or zlib.crc32(body).to_bytes(_CRC_BYTES, "little") != crc:
        return None
    count = len(body) // (dtype.itemsize + has_types)
    return count, body[: count * dtype.itemsize], body[count * dtype.itemsize :]


def hashes(rows: RawSplit) -> np.ndarray:
    """64 bits of each row's texts, outer white space aside: uint64 [n]."""
    columns: list[Sequence[str]] = [rows.texts_a]
    if rows.texts_b is not None:
        columns.append(rows.texts_b)
    found = np.zeros(len(rows), np.uint64)
    for i, row in enumerate(zip(*columns, strict=True)):
        digest = hashlib.blake2b(digest_size=8)
        for text in row:
            encoded = text.strip().encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        found[i] = int.from_bytes(digest.digest(), "little")
    return found
