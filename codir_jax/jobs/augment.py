"""The `augment` verb: further texts without labels, made of a user's by a masked language model."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from codir_jax.data import text_stream
from codir_jax.predict import word_replacer
from codir_jax.predict.word_replacer import WordReplacer
from codir_jax.processes import console, whole
from codir_jax.processes.user_error import UserError

_ROWS_AT_A_TIME = 1024
SUFFIXES = (".jsonl", ".txt")
# Beyond them the copies of a text repeat each other.
MOST_COPIES = 1000


class Made(NamedTuple):
    """Attributes:
    num_rows: that were read. num_copies: that were written. num_left_out: as they equal their text or one another.
    """

    num_rows: int
    num_copies: int
    num_left_out: int


def check(output: str, columns: Sequence[str], copies: int, share: float, top: int) -> None:
    """Refuses what cannot be, before a model is read.

    Raises:
      UserError: what was expected, what came.
    """
    if Path(output).suffix not in SUFFIXES:
        raise UserError(f"--output={output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if Path(output).suffix == ".txt" and len(columns) > 1:
        raise UserError(f"--output={output}: pairs of texts need columns; write a .jsonl")
    if not 1 <= copies <= MOST_COPIES:
        raise UserError(f"--copies={copies}: expected 1 to {MOST_COPIES:,}")
    if not 0 < share <= 1:
        raise UserError(f"--share={share}: expected above 0, at most 1")
    if top < 1:
        raise UserError(f"--top={top}: expected 1 or more")


def augment(
    model: str,
    input: str,
    output: str,
    *,
    columns: Sequence[str],
    copies: int,
    share: float,
    top: int,
    seed: int,
    batch_size: int,
) -> Made:
    """Writes `copies` of each row of a file with other words; see `word_replacer`.

    What is drawn for a copy depends on the seed, the row's number and the copy's, so that more copies go on where fewer
    end. A copy that equals its row or an earlier copy of it is left out.

    Args:
      model: a masked LM. input, columns: as of `text_stream.rows`. output: .jsonl with the same columns, or .txt.

    Raises:
      UserError: bad flags, a model without a masked-LM head.
      DataError: the first line that is broken.
    """
    check(output, columns, copies, share, top)
    replacer = word_replacer.load(model, batch_size=batch_size, share=share, top=top)
    num_rows = num_copies = 0
    with whole.file(output) as file, console.progress_bar("augment", 0, None, unit="text") as bar:
        for rows, made in _parts(replacer, text_stream.rows(input, tuple(columns)), copies, seed):
            for texts in made:
                file.write(_line(output, columns, texts))
            num_rows, num_copies = num_rows + rows, num_copies + len(made)
            bar.update(rows)
        if not num_rows:
            raise UserError(f"{input} has no text")
    return Made(num_rows, num_copies, num_rows * copies - num_copies)


def _parts(replacer: WordReplacer, rows, copies: int, seed: int) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """Yields (rows of a part, their copies in the order of the rows)."""
    numbered = enumerate(row.texts for row in rows)
    while part := list(itertools.islice(numbered, _ROWS_AT_A_TIME)):
        numbers, texts = zip(*part, strict=True)
        made = [dict.fromkeys([row]) for row in texts]  # what a row has already, in order
        for copy in range(copies):
            for own, one in zip(made, replacer.copy(texts, [(seed, copy, i) for i in numbers]), strict=True):
                own[one] = None
        yield len(texts), [one for own in made for one in list(own)[1:]]


def _line(output: str, columns: Sequence[str], texts: tuple[str, ...]) -> str:
    if Path(output).suffix == ".txt":
        return " ".join(texts[0].splitlines()) + "\n"
    return json.dumps(dict(zip(columns, texts, strict=True)), ensure_ascii=False) + "\n"
