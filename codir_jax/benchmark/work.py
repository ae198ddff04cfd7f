"""The work in batches: sentences, tokens with and without padding, floating-point operations."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from codir_jax.evaluation import cost


@dataclasses.dataclass
class Work:
    """What batches contain.

    Attributes:
      rows: (padded length, rows, real lengths int [real rows]) of each batch.
    """

    rows: list[tuple[int, int, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Counts a host batch."""
        lengths = batch["attention_mask"].sum(1)[batch["example_mask"] > 0]
        num_rows, padded_length = batch["input_ids"].shape
        self.rows.append((padded_length, num_rows, lengths))

    def counted(self, batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """The same batches, each counted when it passes."""
        for batch in batches:
            self.add(batch)
            yield batch

    @property
    def sentences(self) -> int:
        """Real rows."""
        return sum(len(lengths) for _, _, lengths in self.rows)

    @property
    def real_tokens(self) -> int:
        """Tokens of the real rows."""
        return int(sum(lengths.sum() for _, _, lengths in self.rows))

    @property
    def padded_tokens(self) -> int:
        """Positions that are computed."""
        return sum(num_rows * length for length, num_rows, _ in self.rows)

    @property
    def shapes(self) -> set[tuple[int, int]]:
        """(rows, padded length) that occurred."""
        return {(rows, length) for length, rows, _ in self.rows}


def forward_flops(model_config: Any, outputs: cost.Outputs, work: Work) -> dict[str, float]:
    """Operations of one forward pass over the batches: {"padded": as computed, "real": without padding}."""
    one = functools.cache(lambda length: cost.model_flops(model_config, length, outputs))
    return {
        "padded": sum(rows * one(length) for length, rows, _ in work.rows),
        "real": sum(one(int(length)) for _, _, lengths in work.rows for length in lengths),
    }


def training_flops(student: Any, teacher: Any | None, outputs: cost.Outputs, work: Work) -> dict[str, dict[str, float]]:
    """{"student": {"padded", "real"}, "teacher": the same} of training steps on the batches.

    The student's forward and backward pass count as three forward passes, a live teacher as one; no teacher as none.
    """
    student_flops = {name: 3 * value for name, value in forward_flops(student, outputs, work).items()}
    none = {"padded": 0.0, "real": 0.0}
    return {
        "student": student_flops,
        "teacher": forward_flops(teacher, outputs, work) if teacher is not None else none,
    }
