"""Vectors on their way to a file, part by part.

    .npy            float32 [n, width]
    .safetensors    the same as a tensor "vectors"
    .jsonl          a line a text: {"text": ..., "vector": [...]}

The file appears whole or not at all.
"""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError

SUFFIXES = (".npy", ".safetensors", ".jsonl")
# Room for a header that is written again when the number of rows is known; a multiple of 8, as safetensors wants.
_SAFETENSORS_HEADER = 256

Append = Callable[[Sequence[str], np.ndarray], None]


def check(path: str, inputs: Sequence[str] = ()) -> None:
    """Refuses an output that is there already or of an unknown kind; "-" is JSON lines on standard output.

    Args:
      inputs: files and folders that are read.

    Raises:
      UserError: naming it.
    """
    if path == "-":
        return
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected an output that ends in {', '.join(SUFFIXES)}, or - for JSON lines")
    whole.check_output(path, inputs=inputs, may_replace=False)


@contextlib.contextmanager
def writer(path: str, width: int) -> Iterator[Append]:
    """Gives a function (texts, vectors float32 [k, width]) that appends; with an error nothing is left of the file."""
    if path == "-":
        yield lambda texts, vectors: sys.stdout.writelines(_json_lines(texts, vectors))
        return
    kind = Path(path).suffix.lower()
    header = {".npy": _npy_header, ".safetensors": _safetensors_header}.get(kind)
    num_rows = 0
    with whole.file(path, binary=True) as file:
        if header:
            file.write(header(0, width))

        def append(texts: Sequence[str], vectors: np.ndarray) -> None:
            nonlocal num_rows
            num_rows += len(vectors)
            if header:
                file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
            else:
                file.writelines(line.encode() for line in _json_lines(texts, vectors))

        yield append
        if header:
            file.seek(0)
            file.write(header(num_rows, width))


def _json_lines(texts: Sequence[str], vectors: np.ndarray) -> Iterator[str]:
    for text, vector in zip(texts, vectors, strict=True):
        yield json.dumps({"text": text, "vector": vector.tolist()}, ensure_ascii=False) + "\n"


def _npy_header(num_rows: int, width: int) -> bytes:
    """Of one size for every number of rows: numpy leaves room for the first axis to grow."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (num_rows, width)})
    return file.getvalue()


def _safetensors_header(num_rows: int, width: int) -> bytes:
    """Its length in 8 bytes, then JSON, which may end in spaces."""
    tensor = {"dtype": "F32", "shape": [num_rows, width], "data_offsets": [0, 4 * num_rows * width]}
    told = json.dumps({"__metadata__": {"format": "np"}, "vectors": tensor}).encode()
    return _SAFETENSORS_HEADER.to_bytes(8, "little") + told.ljust(_SAFETENSORS_HEADER)
