"""An LSTM language model's folder as a torch module, which transformers has no class for: `torch.nn.LSTM` between two
tables. Only called where torch is installed.

The weights have the names that this module gives them (`models.lstm.keys`); the second bias of `torch.nn.LSTM` is 0.
Those that lie there as codes or factors are multiplied out.
"""

from __future__ import annotations

import os
from pathlib import Path

from codir_jax.compression import packed
from codir_jax.convert.folder import WEIGHTS, read_json
from codir_jax.models.lstm import read_config
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.processes.user_error import UserError


def load(folder: str | os.PathLike):
    """The module, float32, of a folder that `convert.export` wrote.

    It takes (input_ids int64 [batch, length], h_0, c_0 float32 [layers, batch, hidden]), the state before the first
    token, and gives (logits float32 [batch, length, vocab], h_n, c_n), the state after the last one.

    Raises:
        UserError: the model reads in both directions: such a one has no next word, and no state to go on from.
    """
    import torch

    folder = Path(folder)
    config = read_config(read_json(folder / "config.json", dict))
    if config.bidirectional:
        raise UserError(f"{folder} reads in both directions; only language models that read from the left are written")
    model = _module(config).eval()
    stored = _stored(folder)
    zeros = {name: torch.zeros_like(x) for name, x in model.state_dict().items() if name.startswith("lstm.bias_hh")}
    tied = {"output.weight": stored["embedding.weight"]} if config.tie_embeddings else {}
    model.load_state_dict({**stored, **zeros, **tied})
    return model


def _stored(folder: Path):
    """Name -> tensor of torch, float32."""
    import torch
    from safetensors.torch import load_file

    if (folder / WEIGHTS).exists():
        return load_file(folder / WEIGHTS)
    return {name: torch.from_numpy(weight.numbers()) for name, weight in packed.read(folder / packed.FILE).items()}


def is_one(folder: str | os.PathLike) -> bool:
    """Whether a folder holds such a model: one that reads from the left."""
    return not read_json(Path(folder) / "config.json", dict).get("bidirectional", False)


def start(config: LSTMConfig, num_rows: int):
    """(h_0, c_0) of texts that begin: zeros."""
    import torch

    return tuple(torch.zeros(config.num_layers, num_rows, config.hidden_size) for _ in range(2))


def _module(config: LSTMConfig):
    import torch

    class LanguageModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = config
            self.embedding = torch.nn.Embedding(config.vocab_size, config.input_size)
            self.lstm = torch.nn.LSTM(config.input_size, config.hidden_size, config.num_layers, batch_first=True)
            self.output = torch.nn.Linear(config.hidden_size, config.vocab_size)

        def forward(self, input_ids, h_0, c_0):
            states, (h_n, c_n) = self.lstm(self.embedding(input_ids), (h_0, c_0))
            return self.output(states), h_n, c_n

    return LanguageModel()
