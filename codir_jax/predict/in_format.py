"""A finished model in the runtime of a format that its folder has: tokenised texts in, one row of its answer out."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from codir_jax.convert import export
from codir_jax.convert.formats import contract
from codir_jax.data import pipeline
from codir_jax.data.length_buckets import ladder
from codir_jax.data.splits import Examples
from codir_jax.evaluation import runner
from codir_jax.processes.user_error import UserError


def load(folder: str | Path, name: str, pad_token_id: int, max_length: int) -> "InFormat":
    """The model that `codir export --format` left in a folder, for texts that are answered each by itself.

    Raises:
      UserError: as `answers_of`.
    """
    return InFormat(answers_of(folder, name), contract.compiles(name), pad_token_id, max_length)


def answers_of(folder: str | Path, name: str) -> contract.Answers:
    """What the runtime of a format answers, of a folder.

    Raises:
      UserError: an unknown format, one whose libraries are not installed, or that the folder does not have.
    """
    contract.require([name])
    if not contract.present(Path(folder), [name]):
        raise UserError(
            f"{folder} has no model in the format {name}; make one: codir export --model={folder} --format={name} "
            "--output=FOLDER"
        )
    return contract.load(Path(folder), name)


def answering(model, folder: str | Path, name: str):
    """A `Predictor` or `SentenceEncoder` of the folder whose runtime is that of a format; by itself it is JAX.

    Raises:
      UserError: as `load`.
    """
    if name == contract.HUGGINGFACE:
        return model
    return dataclasses.replace(model, runtime=load(folder, name, model.tokenizer.pad_token_id, model.max_length))


@dataclasses.dataclass(frozen=True, eq=False)
class InFormat:
    """What `OnDevices` gives, by another runtime: in the caller's process, by as many threads as the runtime takes.

    Attributes:
      answers: of `formats.contract`. compiles: whether it compiles each shape that it meets; texts are padded to few
        lengths then, and to the longest of their batch otherwise.
      pad_token_id: of the tokenizer. max_length: tokens of a text at most.
    """

    answers: contract.Answers
    compiles: bool
    pad_token_id: int
    max_length: int

    def all(self, examples: Examples, batch_size: int) -> np.ndarray:
        """The answers [n, ...] in the order of the examples, of which there is at least one."""
        return runner.gathered(self.each(examples, batch_size), len(examples))

    def each(self, examples: Examples, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (rows int32 [k], answers float32 [k, ...]) of one batch after the other, shortest texts first.

        Raises:
          UserError: an answer is NaN or infinite.
        """
        if self.compiles:
            batch_size = min(batch_size, 1 << (len(examples) - 1).bit_length())
        lengths = ladder(self.max_length) if self.compiles else range(1, self.max_length + 1)
        batches = pipeline.eval_batches(
            examples, batch_size=batch_size, length_buckets=tuple(lengths), pad_token_id=self.pad_token_id
        )
        for batch in batches:
            rows = batch["example_ids"]
            real = rows < len(examples)
            run = slice(None) if self.compiles else real
            answers = np.asarray(self.answers(*(batch[name][run] for name in export.INPUTS)), np.float32)
            answers = answers[real] if self.compiles else answers
            runner.check_finite(answers, rows[real])
            yield rows[real], answers

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Runs batches of these sizes, of every padded length where each is compiled."""
        for size in batch_sizes:
            for length in ladder(self.max_length) if self.compiles else (self.max_length,):
                tokens = np.full((size, length), self.pad_token_id, np.int32)
                self.answers(tokens, np.ones_like(tokens), np.zeros_like(tokens))
