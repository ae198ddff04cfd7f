"""ONNX, written by torch from the model as transformers reads it; onnxruntime runs it without torch or transformers.

Inputs are int64 [batch, length], of any batch and length, those that the folder's tokenizer gives. A classifier answers
`logits`; a sentence encoder `sentence_embedding`, pooled and normalised as its folder says, and `last_hidden_state`,
by which sentence-transformers knows it (backend="onnx").
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path

import numpy as np

from codir_jax.convert import export, in_torch, sentence_folder
from codir_jax.convert.folder import read_json
from codir_jax.models.heads import head_spec

FILE = "onnx/model.onnx"
USAGE = (
    "import numpy, onnxruntime, tokenizers",
    "",
    f'session = onnxruntime.InferenceSession("path/to/this/folder/{FILE}")',
    'text = tokenizers.Tokenizer.from_file("path/to/this/folder/tokenizer.json").encode("A text.")',
    'inputs = {"input_ids": text.ids, "attention_mask": text.attention_mask, "token_type_ids": text.type_ids}',
    "print(session.run(None, {i.name: numpy.array([inputs[i.name]]) for i in session.get_inputs()})[0])",
)
NEEDS, EXTRA = ("torch", "onnx", "onnxscript", "onnxruntime"), "onnx"


def write(folder: Path, head: str) -> None:
    """Writes the model as transformers reads it from the folder."""
    import torch

    model = in_torch.load(folder, head_spec(head).card.auto_class)
    names, facts = _inputs(folder), sentence_folder.read(folder)
    example = tuple(torch.ones((2, 7), dtype=torch.int64) for _ in names)
    both = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}

    class Served(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            given = dict(zip(names, inputs, strict=True))
            output = self.model(**given)
            if facts is None:
                return output.logits
            return in_torch.pooled(facts, output, given["attention_mask"]), output.last_hidden_state

    with warnings.catch_warnings(), silent("torch.onnx"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Served(),
            example,
            dynamo=True,
            input_names=names,
            output_names=["logits"] if facts is None else ["sentence_embedding", "last_hidden_state"],
            dynamic_shapes=(tuple(both for _ in names),),
            verbose=False,
        )
    program.save(str(folder / FILE))


def load(folder: Path, file: str = FILE):
    """The model in onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    wanted = [given.name for given in session.get_inputs()]
    first = session.get_outputs()[0].name

    def answers(*inputs):
        named = dict(zip(export.INPUTS, inputs, strict=True))
        return session.run([first], {name: named[name].astype(np.int64) for name in wanted})[0]

    return answers


def _inputs(folder: Path) -> list[str]:
    """The inputs that the tokenizer of the folder gives, in our order."""
    given = read_json(folder / "tokenizer_config.json", dict).get("model_input_names") or export.INPUTS
    has_types = read_json(folder / "config.json", dict).get("type_vocab_size", 1) > 1
    return [name for name in export.INPUTS if name in given and (has_types or name != "token_type_ids")]


@contextlib.contextmanager
def silent(name: str):
    """Leaves out what a logger says below an error: of libraries that are not needed, and of every pass."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
