"""An embedded corpus, `data.sources=demo:NUMBER`: documents of acceptable sentences of the demo grammar.

For trying the machinery where there is no text at hand; the grammar is that of `data.demo`.
"""

from __future__ import annotations

import json
from pathlib import Path

from codir_jax.data import tokenizer_training
from codir_jax.processes import whole
from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.user_error import UserError

PREFIX = "demo:"
_SENTENCES_PER_DOCUMENT = 12
_VOCAB_SIZE = 2000


def file(entry: str) -> Path:
    """Returns the .jsonl of the entry "demo:NUMBER" in the user's cache, written now where it is not there.

    Raises:
      UserError: no number, or more documents than the grammar has.
    """
    number = entry.removeprefix(PREFIX)
    if not number.isdecimal() or int(number) < 2:
        raise UserError(f"data.sources: expected demo:NUMBER with a number of documents from 2 on, got {entry!r}")
    path = cache_folder("corpus") / f"demo-{int(number)}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"text": text}) + "\n" for text in documents(int(number)))
        whole.write_text(path, "".join(lines))
    return path


def texts(sources: str) -> list[str] | None:
    """Returns the documents of `data.sources` where that is one such entry, else None."""
    place, _, _ = sources.strip().partition("@")
    number = place.removeprefix(PREFIX)
    return documents(int(number)) if place.startswith(PREFIX) and number.isdecimal() else None


def fresh_tokenizer(sources: str):
    """Returns a tokenizer trained on the documents of `data.sources` where that is one such entry, else None."""
    found = texts(sources)
    return None if found is None else tokenizer_training.train_wordpiece(found, vocab_size=_VOCAB_SIZE)


def documents(number: int) -> list[str]:
    """Returns that many documents, the same on every machine."""
    from codir_jax.data.sets import demo

    size = _SENTENCES_PER_DOCUMENT
    examples = demo.generate(2 * number * size, 2, seed=0)["train"]
    sentences = [f"{example.text[:1].upper()}{example.text[1:]}." for example in examples if example.label == 1]
    return [" ".join(sentences[start : start + size]) for start in range(0, number * size, size)]
