"""What other libraries compute from an exported folder; only called where torch is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from codir_jax.convert import lstm_in_torch, sentence_folder
from codir_jax.convert.folder import WEIGHTS
from codir_jax.convert.sentence_folder import SentenceFacts
from codir_jax.models.heads import head_spec
from codir_jax.processes.user_error import UserError


def answers(folder: str | os.PathLike, inputs: Mapping[str, np.ndarray], head: str) -> Iterator[np.ndarray]:
    """Yields the answers of transformers, if it has such a model, and, of a sentence encoder, sentence-transformers';
    of a language model that reads from the left those of `torch.nn.LSTM`.

    Args:
        folder: as `export` wrote it.
        inputs: `input_ids`, `attention_mask`, `token_type_ids`, int32 [batch, seq].
        head: of `models.heads.HEADS`.
    """
    spec = head_spec(head)
    if head == "language_model" and lstm_in_torch.is_one(folder):
        yield _of_lstm(folder, inputs["input_ids"])
    if not spec.card.auto_class or not (Path(folder) / WEIGHTS).exists():  # transformers has no such model, or file
        return
    import torch

    model = load(folder, spec.card.auto_class)
    known = inspect.signature(model.forward).parameters  # not every family looks at token types
    tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in inputs.items() if name in known}
    with torch.no_grad():
        output = model(**tensors)
    if spec.answer == "logits":
        yield output.logits.numpy()
        return
    yield pooled(sentence_folder.read(Path(folder)), output, tensors["attention_mask"]).numpy()
    if importlib.util.find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer

        with _without_bar():
            encoder = SentenceTransformer(str(folder), device="cpu").eval()
        with torch.no_grad():
            yield encoder(tensors)["sentence_embedding"].numpy()


def _of_lstm(folder: str | os.PathLike, input_ids: np.ndarray) -> np.ndarray:
    """Logits float32 [batch, length, vocab] of texts that begin."""
    import torch

    model = lstm_in_torch.load(folder)
    with torch.no_grad():
        ids = torch.from_numpy(input_ids.astype(np.int64))
        return model(ids, *lstm_in_torch.start(model.config, len(ids)))[0].numpy()


def load(folder: str | os.PathLike, auto_class: str):
    """The model as transformers reads it, a torch module in float32.

    Raises:
        UserError: the folder's weights are factors, which transformers does not read.
    """
    if not (Path(folder) / WEIGHTS).exists():
        raise UserError(f"{folder} holds factors of weights, which torch does not read; leave the format out")
    import torch
    import transformers

    with _without_bar():
        return getattr(transformers, auto_class).from_pretrained(str(folder), dtype=torch.float32).eval()


@contextlib.contextmanager
def _without_bar() -> Iterator[None]:
    """transformers shows no progress bar inside: the files are small."""
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bar:
            logging.enable_progress_bar()


def pooled(facts: SentenceFacts, output, attention_mask):
    """The vectors that a folder asks for, from what AutoModel returns; tensors of torch."""
    import torch

    states, mask = output.last_hidden_state, attention_mask[..., None].to(output.last_hidden_state.dtype)
    vectors = {
        "mean": lambda: (states * mask).sum(1) / mask.sum(1),
        "cls": lambda: states[:, 0],
        "pooler": lambda: output.pooler_output,
    }[facts.pooling]()
    return torch.nn.functional.normalize(vectors, dim=-1) if facts.normalize else vectors
