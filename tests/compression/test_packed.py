"""Files of packed weights: what comes back is what was written, to the bit, and is as small as it says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codir_jax.compression import methods, packed


def tree():
    rng = np.random.default_rng(0)
    return {
        "a": {"kernel": rng.normal(size=(30, 50)).astype(np.float32), "bias": np.float32([1, 2, 3])},
        "b": {"embedding": rng.normal(size=(64, 27)).astype(np.float32)},
    }


METHODS = (
    "int8",
    "int6",
    "int4",
    "int3",
    "int4_tensor",
    "int3_affine",
    "prune70",
    "prune70+int4",
    "prune70+int3_affine",
)
METHODS += ("rank3", "rank3+int8", "tt2@b.*", "tt2@b.*+int6")


@pytest.mark.parametrize("method", METHODS)
def test_what_is_read_is_what_was_written(method, tmp_path):
    weights, _ = methods.compress(tree(), methods.parse(method))
    packed.write(tmp_path / packed.FILE, weights)
    again = packed.read(tmp_path / packed.FILE)
    assert set(again) == set(weights)
    for path, weight in weights.items():
        assert (again[path].kind, again[path].shape) == (weight.kind, weight.shape)
        for old, new in zip(weight.arrays, again[path].arrays, strict=True):
            np.testing.assert_array_equal(old.numbers(), new.numbers())
            turned = old.numbers() if old.values.ndim == 1 else old.transposed().numbers()
            np.testing.assert_array_equal(turned, new.numbers().T if turned.ndim < 4 else new.numbers().swapaxes(1, 2))


@pytest.mark.parametrize(("bits", "per_code"), [(8, 1), (6, 0.75), (4, 0.5), (3, 0.375)])
def test_codes_take_their_bits_and_no_more(bits, per_code, tmp_path):
    weights, _ = methods.compress(tree(), methods.parse(f"int{bits}"))
    packed.write(tmp_path / packed.FILE, weights)
    tensors = load_file(tmp_path / packed.FILE)
    assert tensors["a/kernel.values"].nbytes == np.ceil(1500 * per_code)
    assert tensors["a/kernel.scale"].nbytes == 4 * 50
    assert tensors["a/bias"].dtype == np.float32


def test_a_pruned_weight_is_its_bitmap_and_what_is_left(tmp_path):
    weights, _ = methods.compress(tree(), methods.parse("prune90"))
    packed.write(tmp_path / packed.FILE, weights)
    tensors = load_file(tmp_path / packed.FILE)
    assert tensors["a/kernel.bitmap"].nbytes == np.ceil(1500 / 8)
    assert tensors["a/kernel.values"].shape == (150,)


def test_three_bits_by_hand(tmp_path):
    """Codes -3, 3, 0 plus 3 are 0, 6, 3: bits 000 011 110 from the lowest, in bytes 10110000 0."""
    array = packed.Array(np.int16([[-3, 3, 0]]), 3, np.float32([[2]]))
    packed.write(tmp_path / "x", {"w": packed.Weight("dense", (array,))})
    tensors = load_file(tmp_path / "x")
    assert tensors["w.values"].tolist() == [0b11110000, 0]
    np.testing.assert_array_equal(packed.read(tmp_path / "x")["w"].numbers(), [[-6, 6, 0]])


def test_transposed_factors_are_factors_of_the_transposed():
    for method in ("rank3", "tt2@b.*"):
        weight = methods.compress(tree(), methods.parse(method))[0]["b/embedding"]
        np.testing.assert_allclose(weight.transposed().numbers(), weight.numbers().T, atol=1e-5)


def test_the_reader_stands_alone(tmp_path):
    """A copy of the file, without this package, writes the ordinary float32 file."""
    weights, _ = methods.compress(tree(), methods.parse("rank3+int4"))
    packed.write(tmp_path / packed.FILE, weights)
    (tmp_path / "unpack.py").write_text(Path(packed.__file__).read_text())
    code = """
import runpy, sys
sys.modules["codir_jax"] = sys.modules["jax"] = None
sys.argv = ["unpack.py", "."]
runpy.run_path("unpack.py", run_name="__main__")
"""
    command = [sys.executable, "-I", "-c", code]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    tensors = load_file(tmp_path / "model.safetensors")
    for path, weight in weights.items():
        np.testing.assert_array_equal(tensors[path], weight.numbers())


def test_another_file_is_refused(tmp_path):
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / packed.FILE)
    with pytest.raises(ValueError, match="no file of packed weights"):
        packed.read(tmp_path / packed.FILE)
