"""What other libraries compute from an exported folder; only called where torch is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from codir_jax.convert import sentence_folder
from codir_jax.convert.sentence_folder import unit_rows
from codir_jax.models.heads import head_spec


def answers(folder: str | os.PathLike, inputs: Mapping[str, np.ndarray], head: str) -> Iterator[np.ndarray]:
    """Yields the answers of transformers, if it has such a model, and, of a sentence encoder, sentence-transformers'.

    Args:
        folder: as `export` wrote it.
        inputs: `input_ids`, `attention_mask`, `token_type_ids`, int32 [batch, seq].
        head: of `models.heads.HEADS`.
    """
    spec = head_spec(head)
    if not spec.card.auto_class:  # transformers has no such model
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
    yield _pooled(folder, output, inputs["attention_mask"])
    if importlib.util.find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer

        with _without_bar():
            encoder = SentenceTransformer(str(folder), device="cpu").eval()
        with torch.no_grad():
            yield encoder(tensors)["sentence_embedding"].numpy()


def load(folder: str | os.PathLike, auto_class: str):
    """The model as transformers reads it, a torch module in float32."""
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


def _pooled(folder: str | os.PathLike, output, attention_mask: np.ndarray) -> np.ndarray:
    """The vectors that the folder's own files ask for, from what AutoModel returns."""
    facts = sentence_folder.read(Path(folder))
    states = output.last_hidden_state.numpy()
    mask = attention_mask[..., None]
    vectors = {
        "mean": lambda: (states * mask).sum(1) / mask.sum(1),
        "cls": lambda: states[:, 0],
        "pooler": lambda: output.pooler_output.numpy(),
    }[facts.pooling]()
    return unit_rows(vectors) if facts.normalize else vectors
