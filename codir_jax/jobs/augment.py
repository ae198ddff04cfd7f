"""Further texts without labels, made by a masked language model: the `augment` verb, and a part of a job."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from codir_jax.data import text_stream
from codir_jax.jobs import own_data
from codir_jax.predict import word_replacer
from codir_jax.predict.word_replacer import WordReplacer
from codir_jax.processes import console, whole
from codir_jax.processes.user_error import UserError

_ROWS_AT_A_TIME = 1024
SUFFIXES = (".jsonl", ".txt")
# Beyond them the copies of a text repeat each other.
MOST_COPIES = 1000
# Of the words of a copy, as masked LMs are trained; words to draw among, as in TinyBERT.
SHARE, TOP = 0.15, 15


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


def augment(replacer: WordReplacer, input: str, output: str, *, columns: Sequence[str], copies: int, seed: int) -> Made:
    """Writes `copies` of each row of a file with other words; see `word_replacer`.

    What is drawn for a copy depends on the seed, the row's number and the copy's, so that more copies go on where fewer
    end. A copy that equals its row or an earlier copy of it is left out.

    Args:
      replacer: a masked LM. input, columns: as of `text_stream.rows`. output: .jsonl with the same columns, or .txt.
      copies: with `output` and `columns` as `check` lets them through.

    Raises:
      UserError: there is no text.
      DataError: the first line that is broken.
    """
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


@dataclasses.dataclass(frozen=True)
class OfJob:
    """Copies of a job's train texts, in a file of its folder.

    Attributes:
      model: a masked LM. copies, seed: as of `augment`.
      train, columns: the file, and the columns of its texts. path: of the copies.
    """

    model: str
    copies: int
    seed: int
    train: str
    columns: tuple[str, ...]
    path: Path

    @property
    def is_made(self) -> bool:
        """Whether the file is there, made of the same."""
        return self.path.exists() and self._before() == self._made_of()

    def check(self) -> None:
        """Refuses a model that puts no words anywhere.

        Raises:
          UserError: what it lacks, and what to do.
        """
        if not self.model:
            raise UserError("--augment needs a masked LM, and no --teacher is given; name one: --augment_by=FOLDER")
        check(str(self.path), self.columns, self.copies, SHARE, TOP)
        try:
            _ = self._replacer  # it is read once, and here the first time
        except UserError as error:
            raise UserError(f"--augment: {error}; name a masked LM: --augment_by=FOLDER") from error

    def make(self, is_begun: bool) -> None:
        """Writes the file, where it is not there.

        Args:
          is_begun: stages were trained on it.

        Raises:
          UserError: it was made of something else.
        """
        if self.is_made:
            return
        if is_begun and self._before():
            raise UserError(
                f"{self.path} was made of other texts, or in another way, and stages were trained on it; choose "
                "another --output, or give --train, --seed, --augment and --augment_by as they were"
            )
        console.say(f"== other words in {self.copies} copies of each text -> {self.path}")
        rest = {"columns": self.columns, "copies": self.copies, "seed": self.seed}
        made = augment(self._replacer, self.train, str(self.path), **rest)
        console.say(f"{made.num_copies:,} copies of {made.num_rows:,} texts")
        whole.write_json(self._facts, self._made_of())

    @functools.cached_property
    def _replacer(self) -> WordReplacer:
        return word_replacer.load(self.model, share=SHARE, top=TOP)

    @property
    def _facts(self) -> Path:
        return self.path.with_suffix(".json")

    def _before(self) -> dict | None:
        return json.loads(self._facts.read_text(encoding="utf-8")) if self._facts.exists() else None

    def _made_of(self) -> dict:
        rest = {"columns": list(self.columns), "copies": self.copies, "seed": self.seed}
        return {"model": self.model, "texts": own_data.content(self.train), **rest}


def _line(output: str, columns: Sequence[str], texts: tuple[str, ...]) -> str:
    if Path(output).suffix == ".txt":
        return " ".join(texts[0].splitlines()) + "\n"
    return json.dumps(dict(zip(columns, texts, strict=True)), ensure_ascii=False) + "\n"
