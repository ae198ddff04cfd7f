"""ONNX, written by torch from the model as transformers reads it; onnxruntime runs it without torch or transformers.

Inputs are int64 [batch, length], of any batch and length, those that the folder's tokenizer gives. A classifier answers
`logits`; a sentence encoder `sentence_embedding`, pooled and normalised as its folder says, and `last_hidden_state`,
by which sentence-transformers knows it (backend="onnx").

A language model takes `input_ids` and the state before them, `h_0` and `c_0`, float32 [layers, batch, hidden]; it
answers `logits`, float32 [batch, length, vocabulary], and the state after them, `h_n` and `c_n`, from which a text goes
on word by word.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from codir_jax.convert import export, in_torch, lstm_in_torch, sentence_folder
from codir_jax.convert.folder import read_json
from codir_jax.models.heads import head_spec
from codir_jax.processes import quiet

FILE = "onnx/model.onnx"
HEADS = ("classification", "embedding", "language_model")
NEEDS, EXTRA = ("torch", "onnx", "onnxscript", "onnxruntime"), "onnx"


STATE = {"h_0": "h_n", "c_0": "c_n"}  # of a language model: before -> after


def usage(head: str) -> tuple[str, ...]:
    """For the model card."""
    session = f'session = onnxruntime.InferenceSession("path/to/this/folder/{FILE}")'
    if head == "language_model":
        return (
            "import json, numpy, onnxruntime, tokenizers",
            "",
            session,
            'words = tokenizers.Tokenizer.from_file("path/to/this/folder/tokenizer.json")',
            'shapes = {i.name: i.shape for i in session.get_inputs() if i.name != "input_ids"}',
            "state = {name: numpy.zeros((s[0], 1, s[2]), numpy.float32) for name, s in shapes.items()}",
            'named = json.load(open("path/to/this/folder/tokenizer_config.json"))',
            'end = words.token_to_id(named.get("eos_token") or named["sep_token"])  # of the sentence before',
            'ids = numpy.array([[end, *words.encode("A text", add_special_tokens=False).ids]])',
            'logits, h_n, c_n = session.run(None, {"input_ids": ids, **state})',
            "print(words.id_to_token(int(logits[0, -1].argmax())))",
            "# the text goes on with the next ids, and h_n and c_n in the place of h_0 and c_0",
        )
    return (
        "import numpy, onnxruntime, tokenizers",
        "",
        session,
        'text = tokenizers.Tokenizer.from_file("path/to/this/folder/tokenizer.json").encode("A text.")',
        'inputs = {"input_ids": text.ids, "attention_mask": text.attention_mask, "token_type_ids": text.type_ids}',
        "print(session.run(None, {i.name: numpy.array([inputs[i.name]]) for i in session.get_inputs()})[0])",
    )


def write(folder: Path, head: str) -> None:
    """Writes the model as torch reads it from the folder."""
    program = _recurrent(folder) if head == "language_model" else _encoder(folder, head)
    program.save(str(folder / FILE))


def _encoder(folder: Path, head: str):
    import torch

    model = in_torch.load(folder, head_spec(head).card.auto_class)
    names, facts = _inputs(folder), sentence_folder.read(folder)
    example = tuple(torch.ones((2, 7), dtype=torch.int64) for _ in names)
    both = {0: "batch", 1: "length"}

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

    outputs = ["logits"] if facts is None else ["sentence_embedding", "last_hidden_state"]
    return _exported(Served(), example, (tuple(both for _ in names),), names, outputs)


def _recurrent(folder: Path):
    import torch
    from onnxscript import ir

    model = lstm_in_torch.load(folder)
    example = (torch.ones((2, 7), dtype=torch.int64), *lstm_in_torch.start(model.config, 2))
    # torch traces an LSTM as of one length, that of the example; the node that it writes has none, and what is written
    # of lengths beside the nodes is taken out.
    shapes = ({0: "batch", 1: torch.export.Dim.AUTO}, {1: "batch"}, {1: "batch"})
    program = _exported(model, example, shapes, ["input_ids", *STATE], ["logits", *STATE.values()])
    for node in program.model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    (ids, *_), (logits, *_) = program.model.graph.inputs, program.model.graph.outputs
    ids.shape = ir.Shape(["batch", "length"])
    logits.shape = ir.Shape(["batch", "length", model.config.vocab_size])
    return program


def _exported(model, example, shapes, inputs, outputs):
    import torch

    with warnings.catch_warnings(), quiet.loggers("torch.onnx"):
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            model,
            example,
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )


def load(folder: Path, file: str = FILE):
    """The model in onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    wanted = [given.name for given in session.get_inputs()]
    if set(STATE) <= set(wanted):
        return Recurrent(session)
    first = session.get_outputs()[0].name

    def answers(*inputs):
        named = dict(zip(export.INPUTS, inputs, strict=True))
        return session.run([first], {name: named[name].astype(np.int64) for name in wanted})[0]

    return answers


class Recurrent:
    """`formats.contract.Answers` of a language model, and its `step`."""

    def __init__(self, session):
        self._session = session
        self._shapes = {given.name: given.shape for given in session.get_inputs() if given.name in STATE}

    def __call__(self, input_ids, attention_mask, token_type_ids):
        """Logits float32 [batch, length, vocab] of texts that begin; padding stands behind them."""
        del attention_mask, token_type_ids
        return self.step(input_ids)[0]

    def step(self, input_ids, state=None):
        """(logits, state after the last token) of int32 ids [batch, length] and the state before them."""
        zeros = lambda shape: np.zeros((shape[0], len(input_ids), shape[2]), np.float32)  # noqa: E731
        state = {name: zeros(shape) for name, shape in self._shapes.items()} if state is None else state
        wanted = ["logits", *STATE.values()]
        logits, *after = self._session.run(wanted, {"input_ids": input_ids.astype(np.int64), **state})
        return logits, dict(zip(STATE, after, strict=True))


def _inputs(folder: Path) -> list[str]:
    """The inputs that the tokenizer of the folder gives, in our order."""
    given = read_json(folder / "tokenizer_config.json", dict).get("model_input_names") or export.INPUTS
    has_types = read_json(folder / "config.json", dict).get("type_vocab_size", 1) > 1
    return [name for name in export.INPUTS if name in given and (has_types or name != "token_type_ids")]
