"""ONNX with weights of 8 bits, by onnxruntime's dynamic quantisation: smaller by four, and faster on most CPUs.

Weights of products and of embeddings are whole numbers with a scale for each output; activations are rounded while it
runs, by the range that they have there. So answers differ, a little: scores are told by the dev split, where there is
one (`jobs/served.py`), and the verdict tells the error on a few texts.
"""

from __future__ import annotations

from pathlib import Path

from codir_jax.convert.formats import onnx
from codir_jax.processes import quiet

FILE = "onnx/model_quantized.onnx"
HEADS, NEEDS, EXTRA = onnx.HEADS, onnx.NEEDS, onnx.EXTRA
AFTER = "onnx"
# An error of a fifth of the answers' size moves few labels; students of 2 to 6 layers have 0.01 to 0.05.
LARGEST_ERROR = 0.2


def usage(head: str) -> tuple[str, ...]:
    """For the model card."""
    return tuple(line.replace(onnx.FILE, FILE) for line in onnx.usage(head))


def write(folder: Path, head: str) -> None:
    """Writes the model in `onnx.FILE` with rounded weights."""
    del head
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet.loggers(""):  # it recommends a step for models of images
        quantize_dynamic(folder / onnx.FILE, folder / FILE, weight_type=QuantType.QInt8, per_channel=True)


def load(folder: Path):
    """The model in onnxruntime on the CPU."""
    return onnx.load(folder, FILE)
