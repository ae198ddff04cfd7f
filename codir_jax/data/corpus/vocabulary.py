"""A tokenizer trained on the sources of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from codir_jax.data import tokenizer_training, word_vocabulary
from codir_jax.data.corpus import documents
from codir_jax.data.corpus import sources as sources_lib
from codir_jax.data.data_error import DataError
from codir_jax.processes.user_error import UserError

KINDS = {
    "byte_level_bpe": tokenizer_training.train_byte_level_bpe,
    "wordpiece": tokenizer_training.train_wordpiece,
    "word": word_vocabulary.train_words,
    "character": word_vocabulary.train_characters,
}

# A billion characters hold every piece worth having; more only takes longer.
_MAX_BYTES = 1 << 30
_MOST_PIECES = 10_000_000


def train(
    kind: str,
    config,
    vocab_size: int,
    *,
    max_bytes: int = _MAX_BYTES,
    tell: Callable[[str], None] = print,
    progress: Callable | None = None,
):
    """Returns a transformers tokenizer learned from `data.sources`; data.dev_sources are not read.

    Where the sources hold more than max_bytes, parts evenly spread over them are read, and of each its share. Weights
    do not count.

    Args:
      kind: "byte_level_bpe" (RoBERTa's) or "wordpiece" (BERT's, lower case).
      config: the data section: sources, text_field, tfds_data_dir; of running text in whatever form.
      vocab_size: pieces at most, specials included.
      max_bytes: of text to read, about.
      tell: is told what is done, a line each.
      progress: called with (name, done, total, unit), returns a tqdm-like bar; None: no bar.

    Raises:
      UserError: unknown kind, or a vocabulary too small for it.
      DataError: with file and line of up to ten problems of the text.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of tokenizer {kind!r}; known: {', '.join(KINDS)}")
    if not 1 <= vocab_size <= _MOST_PIECES:
        raise UserError(f"--vocab_size={vocab_size}: expected 1 to {_MOST_PIECES:,}")
    if not config.sources.strip():
        raise UserError("no text: set data.sources to files, folders, globs or tfds:NAME:FIELD, comma separated")
    units = sources_lib.units(sources_lib.find(config.sources, config.tfds_data_dir))
    total = sum(unit.num_bytes for unit in units)
    step = max(1, -(-total // max_bytes))
    units = units[step // 2 :: step] or units[:1]
    read = sum(unit.num_bytes for unit in units)
    tell(f"learning a {kind} vocabulary from {read / 1e6:,.1f} of {total / 1e6:,.1f} MB of text")
    bar = progress("learn", 0, read, "B") if progress else None
    try:
        found = _texts(units, config.text_field, bar, max_bytes / max(read, 1))
        tokenizer = KINDS[kind](found, vocab_size)
    finally:
        if bar is not None:
            bar.close()
    if len(tokenizer) > vocab_size:
        raise UserError(
            f"--vocab_size={vocab_size}: characters and special pieces of this text alone are {len(tokenizer):,}; "
            "give more"
        )
    tell(f"{len(tokenizer):,} pieces")
    return tokenizer


def _texts(units, text_field: str, bar, most_for_a_byte: float) -> Iterator[str]:
    """At most so many characters of a unit for each of its bytes: one that is packed, or huge, does not take all."""
    is_empty = True
    for unit in units:
        problems: list[str] = []
        left = most_for_a_byte * unit.num_bytes
        for _, text in documents.events(unit, "file", text_field, problems):
            if text:
                is_empty = False
                yield text
                left -= len(text)
                if left <= 0:
                    break
        if problems:
            raise DataError(problems)
        if bar is not None:
            bar.update(unit.num_bytes)
    if is_empty:
        raise DataError(["data.sources hold no text at all"])
