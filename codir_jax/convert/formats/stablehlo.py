"""StableHLO as `jax.export` serialises it: the program with its weights, which needs JAX alone, on CPU, GPU and TPU.

program = jax.export.deserialize(bytearray(Path("stablehlo/model.bin").read_bytes()))
program.call(input_ids, attention_mask, token_type_ids)  # int32 [batch, length], any of both

"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from codir_jax.convert import export
from codir_jax.convert.pretrained import load_pretrained

FILE = "stablehlo/model.bin"
HEADS = ("classification", "embedding")
NEEDS, EXTRA = ("flatbuffers",), "stablehlo"
COMPILES = True
PLATFORMS = ("cpu", "cuda", "tpu")


def usage(head: str) -> tuple[str, ...]:
    """For the model card."""
    del head
    return (
        "from pathlib import Path",
        "",
        "import jax, numpy, tokenizers",
        "",
        f'program = jax.export.deserialize(bytearray(Path("path/to/this/folder/{FILE}").read_bytes()))',
        'text = tokenizers.Tokenizer.from_file("path/to/this/folder/tokenizer.json").encode("A text.")',
        "print(program.call(*(numpy.int32([ids]) for ids in (text.ids, text.attention_mask, text.type_ids))))",
    )


def write(folder: Path, head: str) -> None:
    """Writes the program, of any batch and of lengths up to that of the model."""
    source = load_pretrained(folder, head=head)
    of = f"length <= {source.config.max_length}"
    shape = jax.export.symbolic_shape("batch, length", constraints=[of])
    inputs = [jax.ShapeDtypeStruct(shape, np.int32)] * len(export.INPUTS)
    served = jax.jit(lambda *inputs: export.apply(source, head, source.params, *inputs))
    program = jax.export.export(served, platforms=PLATFORMS)(*inputs)
    (folder / FILE).write_bytes(program.serialize())


def load(folder: Path):
    """The program, deserialised."""
    program = jax.export.deserialize(bytearray((folder / FILE).read_bytes()))
    call = jax.jit(program.call)
    return lambda *inputs: np.asarray(call(*inputs))
