"""What the readers do with any bytes: rows, or a `UserError` that names the file; no other exception, no changed file.

python -m pytest tests/fuzz/test_readers.py                       a few examples each
CODIR_EXAMPLES=2000 python -m pytest tests/fuzz/test_readers.py   more (the slow test: 500)
"""

import functools
import json
import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codir_jax import config as config_lib
from codir_jax.convert import folder as model_folder
from codir_jax.data import delimited, nbest, text_stream
from codir_jax.data.sets import text_classification
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config

EXAMPLES = int(os.environ.get("CODIR_EXAMPLES", "25"))
# Time is bounded by the example: a reader that hangs is found by the deadline.
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Characters that have a meaning for some reader, beside any other.
ODD = st.sampled_from(
    [
        "\t",
        ",",
        '"',
        "\n",
        "\r\n",
        "\r",
        "\0",
        "\ufeff",
        "\u2028",
        "\x85",
        "\u200b",
        "{",
        "}",
        "[",
        "]",
        ":",
        "\\",
        "1e999",
    ]
)
TEXTS = st.lists(st.one_of(ODD, st.text(max_size=8)), max_size=12).map("".join)
# A table that is nearly right, so that more than its first line is read.
HEADERS = st.sampled_from(["sentence\tlabel", "sentence,label", "label\tsentence", '"sentence","label"', "sentence"])
TABLES = st.tuples(HEADERS, st.lists(TEXTS, max_size=5)).map(lambda parts: "\n".join([parts[0], *parts[1]]))
BYTES = st.one_of(
    st.binary(max_size=200),
    TABLES.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.tuples(TABLES, st.binary(max_size=8)).map(lambda parts: parts[0].encode("utf-8", "surrogatepass") + parts[1]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
ROWS = st.one_of(
    st.fixed_dictionaries({"sentence": JSON, "label": JSON}),
    st.fixed_dictionaries({"candidates": st.lists(JSON, max_size=3)}, optional={"scores": JSON, "gold": JSON}),
    JSON,
)
JSON_LINES = st.one_of(
    BYTES,
    st.lists(ROWS.map(json.dumps), min_size=1, max_size=4).map(lambda lines: "\n".join(lines).encode()),
    st.sampled_from([b"[" * 100_000, b'{"sentence": ' + b"7" * 5000 + b"}", b'{"sentence": "\\ud800", "label": "a"}']),
)
FILES = st.one_of(
    st.tuples(st.sampled_from(["t.tsv", "t.csv", "t.txt", "t.tsv.gz", "t.csv.gz", "t.jsonl.gz"]), BYTES),
    st.tuples(st.sampled_from(["t.jsonl", "t.json"]), JSON_LINES),
)


def reads(read):
    """`read(path)` on a file of these bytes: it returns, or ends with a UserError that names the file."""

    def check(name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                read(path)
            except UserError as error:
                assert name in str(error), f"the file is not named: {error}"
            assert path.read_bytes() == content, "the file was changed"
            assert [one.name for one in Path(folder).iterdir()] == [name], "files were left beside it"

    return check


@QUICK
@given(FILES)
def test_a_table_of_any_bytes(file):
    def read(path):
        problems = []
        table = delimited.read_table(path, ["sentence"], problems, optional=["label"])
        assert table is not None or problems
        assert all(str(path) in problem for problem in problems)
        if table:
            assert {len(column) for column in table.columns.values()} <= {len(table.lines)}

    reads(read)(*file)


@QUICK
@given(FILES)
def test_own_files_of_any_bytes(file):
    def read(path):
        paths = [("data.train_path", str(path)), ("data.dev_path", str(path))]
        config = config_lib.load("configs/codir/finetune_teacher.py:own,tiny", paths).data
        data = text_classification.read(config)
        for split in data.splits.values():
            assert all(isinstance(text, str) and text.strip() for text in split.texts_a)

    reads(read)(*file)


@QUICK
@given(FILES)
def test_a_stream_of_any_bytes(file):
    def read(path):
        text_stream.check(str(path))
        for row in text_stream.rows(str(path), ("sentence",)):
            assert isinstance(row.texts[0], str)

    reads(read)(*file)


@QUICK
@given(st.sampled_from(["n.jsonl", "n.txt"]), JSON_LINES)
def test_nbest_lists_of_any_bytes(name, content):
    def read(path):
        for one in nbest.read(str(path)):
            assert len(one.candidates) == len(one.scores) > 0

    reads(read)(name, content)


@functools.cache
def _keys() -> tuple[str, ...]:
    def flat(tree, prefix=""):
        for name, value in tree.items():
            yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]

    return tuple(sorted(flat(_config().to_dict())))


def _config():
    return config_lib.load("configs/codir/finetune_distill.py:tiny")


VALUES = st.one_of(
    TEXTS,
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", "nan", "inf", "-1", "0", "1e400", "7" * 5000, "(" * 5000, "True", "None", "__import__('os')"]),
)


@QUICK
@given(st.data())
def test_overrides_of_any_text(data):
    key, text = data.draw(st.sampled_from(_keys())), data.draw(VALUES)
    try:
        _checked([(key, text)])
    except UserError as error:
        assert key.rpartition(".")[2] in str(error), f"the field is not named: {error}"


def _checked(overrides):
    config = stage_config.load("configs/codir/finetune_distill.py:tiny", overrides)
    json.loads(config_lib.to_json(config), parse_constant=lambda name: pytest.fail(f"{overrides}: {name} was taken"))


@QUICK
@given(st.data())
def test_a_saved_config_with_any_value(data):
    saved = _config().to_dict()
    for _ in range(data.draw(st.integers(1, 2))):
        *groups, name = data.draw(st.sampled_from(_keys())).split(".")
        node = saved
        for group in groups:
            node = node[group] if isinstance(node.get(group), dict) else node.setdefault(group + "_", {})
        node[name] = data.draw(JSON)
    if data.draw(st.booleans()):
        saved.pop(data.draw(st.sampled_from(sorted(saved))))
    reads(_read_saved)("config.json", json.dumps(saved).encode())


@QUICK
@given(st.one_of(JSON_LINES, JSON.map(lambda value: json.dumps(value).encode())))
def test_a_saved_config_of_any_bytes(content):
    reads(_read_saved)("config.json", content)


def _read_saved(path):
    try:
        config_lib.load(str(path))
    except UserError as error:
        # A field is named in place of the file where its value is at fault.
        raise UserError(f"{path.name}: {error}") from error


HEADER = st.dictionaries(
    st.sampled_from(["bert.pooler.dense.bias", "classifier.bias", "__metadata__", "a/../b", ""]),
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"dtype": st.sampled_from(["F32", "I8", "BOOL", "X", "F8_E4M3"]), "shape": JSON, "data_offsets": JSON}
        ),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL"]),
                "shape": st.lists(st.integers(-1, 2**64), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 2**64), min_size=2, max_size=2),
            }
        ),
    ),
    max_size=3,
)


def _safetensors(header, length, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


WEIGHT_FILES = st.one_of(
    st.binary(max_size=64),
    st.builds(_safetensors, HEADER, st.one_of(st.none(), st.integers(0, 2**64 - 1)), st.binary(max_size=64)),
)


@QUICK
@given(WEIGHT_FILES)
def test_a_safetensors_file_of_any_bytes(content):
    def read(path):
        with model_folder.Tensors(path.parent, "bert.", ("embeddings.", "encoder."), {}) as tensors:
            for name in tensors:
                assert tensors.read(name).shape == tuple(tensors.shape(name))

    reads(read)("model.safetensors", content)


@QUICK
@given(st.one_of(JSON_LINES, JSON.map(lambda value: json.dumps(value).encode())))
def test_a_models_config_of_any_bytes(content):
    def read(path):
        assert isinstance(model_folder.read_config(path.parent), dict)

    reads(read)("config.json", content)


@pytest.mark.slow
def test_of_all_readers_with_more_examples():
    import subprocess
    import sys

    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", __file__]
    done = subprocess.run(command, env={**os.environ, "CODIR_EXAMPLES": "500"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:]
