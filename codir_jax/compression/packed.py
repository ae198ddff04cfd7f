"""Compressed weights as they lie in a file. This file alone, with numpy and safetensors, reads them.

    python packed.py FOLDER   writes FOLDER/model.safetensors, float32, which transformers loads

A weight is an array, or a product of arrays (its factors). Of an array called NAME the file has

    NAME                 float32 [shape], where it is kept as it is; else
    NAME.values          float32 [kept], int8 [kept], or uint8: codes of 6, 4 or 3 bits one after the other, lowest bit
                         first, each code plus 2^(bits-1) - 1 (symmetric) or as it is (affine)
    NAME.scale           float32: value = code * scale (symmetric), code * scale + minimum (affine)
    NAME.minimum         float32, affine only
    NAME.bitmap          uint8 [ceil(size / 8)], pruned only: bit i is 1 where value i is kept; lowest bit first

and of a weight with factors the arrays NAME.factor_0, NAME.factor_1, ...: matrices, whose product it is, or cores of a
tensor train [rank, rows, columns, rank]. The metadata of the file say which: key "codir_packed", JSON, name of
each weight that is not one float32 array -> {"kind", "shape", "arrays": [{"shape", "bits", "is_affine", "is_pruned"}]}.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

FILE = "model.packed.safetensors"
READER = "unpack.py"  # a copy of this file, beside the weights
KEY = "codir_packed"
KINDS = ("dense", "low_rank", "tensor_train")
FLOAT = 32  # bits of an array that is not quantised


class Array(NamedTuple):
    """An array, quantised and pruned or neither.

    Attributes:
      values: float32 [shape], or int16 codes [shape].
      bits: of a code; FLOAT: the values are no codes.
      scale: float32, 1 in the axes that it is shared over; None for values that are no codes.
      minimum: float32 scalar in that form, of an affine quantisation, whose codes are 0 .. 2^bits - 1; None: symmetric.
      mask: bool [shape], True where it is kept, False: the value is 0; None: all are kept.
    """

    values: np.ndarray
    bits: int = FLOAT
    scale: np.ndarray | None = None
    minimum: np.ndarray | None = None
    mask: np.ndarray | None = None

    def numbers(self) -> np.ndarray:
        """The float32 values [shape] that a model computes with."""
        values = self.values.astype(np.float32)
        if self.scale is not None:
            values = values * self.scale
        if self.minimum is not None:
            values = values + self.minimum
        return values if self.mask is None else np.where(self.mask, values, np.float32(0))

    def transposed(self) -> Array:
        """The matrix [m, n] as [n, m]; the core [rank, m, n, rank] as [rank, n, m, rank]."""
        first = 0 if self.values.ndim == 2 else 1
        turned = (None if a is None or not a.ndim else np.swapaxes(a, first, first + 1) for a in self[2:])
        scale, _, mask = turned
        return Array(np.swapaxes(self.values, first, first + 1), self.bits, scale, self.minimum, mask)


class Weight(NamedTuple):
    """A weight of a model: one array, or the factors of a matrix. kind: of KINDS."""

    kind: str
    arrays: tuple[Array, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight whole."""
        first, last = self.arrays[0].values.shape, self.arrays[-1].values.shape
        if self.kind == "dense":
            return first
        if self.kind == "low_rank":
            return first[0], last[1]
        modes = [array.values.shape[1:3] for array in self.arrays]
        return math.prod(m for m, _ in modes), math.prod(n for _, n in modes)

    @property
    def is_as_it_was(self) -> bool:
        """Whether it is one float32 array with nothing left out."""
        return self.kind == "dense" and self.arrays[0].bits == FLOAT and self.arrays[0].mask is None

    def numbers(self) -> np.ndarray:
        """The weight whole, float32 [shape]."""
        return multiplied([array.numbers() for array in self.arrays])

    def transposed(self) -> Weight:
        """The matrix turned, as torch keeps what flax keeps."""
        turned = tuple(array.transposed() for array in self.arrays)
        return Weight(self.kind, turned[::-1] if self.kind == "low_rank" else turned)


def multiplied(factors: list[np.ndarray]) -> np.ndarray:
    """The product of matrices [m, r], [r, n] or of the cores of a tensor train; one array as it is."""
    if len(factors) == 1 and factors[0].ndim < 4:
        return factors[0]
    if factors[0].ndim == 2:
        return factors[0] @ factors[1]
    whole = factors[0]  # [1, m, n, r]
    for core in factors[1:]:
        whole = np.einsum("aijb,bklc->aikjlc", whole, core, optimize=True)
        whole = whole.reshape(1, whole.shape[1] * whole.shape[2], -1, core.shape[-1])
    return whole[0, :, :, 0]


def write(path: str | os.PathLike, weights: Mapping[str, Weight], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a file whole or not at all. metadata: more entries of its header."""
    tensors, told = {}, {}
    for name, weight in weights.items():
        entries = []
        for i, array in enumerate(weight.arrays):
            own = name if weight.kind == "dense" else f"{name}.factor_{i}"
            tensors |= {f"{own}{end}": np.ascontiguousarray(tensor) for end, tensor in _tensors(array).items()}
            entries.append(
                {
                    "shape": list(array.values.shape),
                    "bits": array.bits,
                    "is_affine": array.minimum is not None,
                    "is_pruned": array.mask is not None,
                }
            )
        if not weight.is_as_it_was:
            told[name] = {"kind": weight.kind, "shape": list(weight.shape), "arrays": entries}
    partial = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}.part")
    save_file(tensors, partial, metadata={**(metadata or {}), KEY: json.dumps(told)})
    partial.chmod(0o644)  # safetensors writes 0600
    os.replace(partial, path)


def read(path: str | os.PathLike) -> dict[str, Weight]:
    """Name -> weight of a file that `write` wrote.

    Raises:
      ValueError: the file has no such metadata, or they do not fit its tensors.
    """
    with safe_open(path, framework="numpy") as file:
        try:
            told = json.loads((file.metadata() or {}).get(KEY, "null"))
        except RecursionError as error:
            raise ValueError(f"{path}: the metadata {KEY!r} are nested too deeply") from error
        if not isinstance(told, dict):
            raise ValueError(f"{path} has no metadata {KEY!r}: it is no file of packed weights")
        names = set(file.keys())
        weights, of_told = {}, set()
        for name, entry in told.items():
            try:
                weights[name], own = _weight(file, names, name, entry)
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{path}: {name} is not what the metadata say ({error!r})") from error
            of_told |= own
        weights |= {name: Weight("dense", (Array(file.get_tensor(name)),)) for name in names - of_told}
    return weights


def _weight(file, names: set[str], name: str, entry: Mapping) -> tuple[Weight, set[str]]:
    """(the weight of an entry of the metadata, names of its tensors)."""
    arrays, of_told = [], set()
    for i, of_array in enumerate(entry["arrays"]):
        own = name if entry["kind"] == "dense" else f"{name}.factor_{i}"
        ends = ("", ".values", ".scale", ".minimum", ".bitmap")
        found = {end: file.get_tensor(own + end) for end in ends if own + end in names}
        of_told |= {own + end for end in found}
        arrays.append(_array(found, of_array))
    if not _are_factors(entry["kind"], [array.values.shape for array in arrays]):
        raise ValueError(f"{entry['kind']!r} of arrays of shape {[array.values.shape for array in arrays]}")
    weight = Weight(entry["kind"], tuple(arrays))
    if list(weight.shape) != entry["shape"]:
        raise ValueError(f"its arrays make shape {list(weight.shape)}")
    return weight, of_told


def _are_factors(kind: str, shapes: list[tuple[int, ...]]) -> bool:
    """Whether arrays of these shapes can be multiplied as a weight of that kind."""
    if kind == "dense":
        return len(shapes) == 1
    joined = all(left[-1:] == right[:1] for left, right in itertools.pairwise(shapes))
    if kind == "low_rank":
        return joined and [len(shape) for shape in shapes] == [2, 2]
    is_train = bool(shapes) and all(len(shape) == 4 for shape in shapes)
    return kind == "tensor_train" and is_train and joined and shapes[0][0] == shapes[-1][-1] == 1


def _tensors(array: Array) -> dict[str, np.ndarray]:
    """End of a name -> tensor as it lies in the file."""
    if array.bits == FLOAT and array.mask is None:
        return {"": array.values.astype(np.float32)}
    kept = array.values if array.mask is None else array.values[array.mask]
    if array.bits == FLOAT:
        values = kept.astype(np.float32)
    elif array.bits == 8:
        values = kept.astype(np.uint8 if array.minimum is not None else np.int8)
    else:
        offset = 0 if array.minimum is not None else 2 ** (array.bits - 1) - 1
        values = _pack(kept.ravel() + offset, array.bits)
    found = {".values": values, ".scale": array.scale, ".minimum": array.minimum}
    if array.mask is not None:
        found[".bitmap"] = np.packbits(array.mask.ravel(), bitorder="little")
    return {end: tensor for end, tensor in found.items() if tensor is not None}


def _array(found: Mapping[str, np.ndarray], told: Mapping) -> Array:
    shape, bits = tuple(told["shape"]), told["bits"]
    if "" in found:
        return Array(found[""].reshape(shape))
    size, mask = math.prod(shape), None
    if bits not in (FLOAT, 8, 6, 4, 3):
        raise ValueError(f"values of {bits!r} bits")
    if told["is_pruned"]:
        if not 0 <= size <= 8 * found[".bitmap"].size:  # what is there bounds what is made of it
            raise ValueError(f"shape {list(shape)} and a bitmap of {8 * found['.bitmap'].size} bits")
        mask = np.unpackbits(found[".bitmap"], count=size, bitorder="little").astype(bool).reshape(shape)
    num_kept = size if mask is None else int(mask.sum())
    values, minimum = found[".values"], found[".minimum"] if told["is_affine"] else None
    if not 0 <= num_kept * bits <= 8 * values.nbytes:
        raise ValueError(f"{num_kept} values of {bits} bits in {values.nbytes} bytes")
    for name, shared in ((".scale", found.get(".scale")), (".minimum", minimum)):
        if shared is not None and np.broadcast_shapes(shape, shared.shape) != shape:
            raise ValueError(f"{name} of shape {list(shared.shape)} for {list(shape)}")
    if bits not in (8, FLOAT):
        values = _unpack(values, bits, num_kept) - (0 if told["is_affine"] else 2 ** (bits - 1) - 1)
    values = values.astype(np.float32 if bits == FLOAT else np.int16)
    if mask is not None:
        whole = np.zeros(shape, values.dtype)
        whole[mask] = values
        values = whole
    return Array(values.reshape(shape), bits, found[".scale"] if bits != FLOAT else None, minimum, mask)


def _pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [ceil(n bits / 8)] of codes 0 .. 2^bits - 1, [n]."""
    spread = (codes.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(spread.ravel(), bitorder="little")


def _unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse of `_pack`: int16 [count]."""
    spread = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return spread.astype(np.int16) @ (1 << np.arange(bits, dtype=np.int16))


def unpack_folder(folder: str | os.PathLike) -> Path:
    """Writes the packed weights of a folder as an ordinary float32 model.safetensors beside them; returns its path."""
    path = Path(folder) / "model.safetensors"
    tensors = {name: np.ascontiguousarray(w.numbers()) for name, w in read(Path(folder) / FILE).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return path


if __name__ == "__main__":
    print(unpack_folder(sys.argv[1]))
