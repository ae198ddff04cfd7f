"""How fast a run goes: seconds of a step, without compiling, judging and saving; and when it compiles."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax


class Pace:
    """The pace between two looks.

    Args:
      step: finished steps. tell: prints a line.
    """

    def __init__(self, step: int, tell: Callable[[str], None]):
        self._step, self._tell = step, tell
        self._since, self._other, self._skipped = time.perf_counter(), 0.0, 0
        self._compiled: set[tuple] = set()

    @contextlib.contextmanager
    def of_step(self, step: int, batch: Mapping[str, Any], function: Callable | None = None) -> Iterator[None]:
        """A step by `function` is taken inside; its first one of new shapes compiles, is told, and does not count."""
        shapes = (id(function), *(array.shape for array in batch.values()))
        if shapes in self._compiled:
            yield
            return
        self._compiled.add(shapes)
        inputs = batch.get("places", batch["input_ids"])  # in lines, where several texts share one
        self._tell(f"step {step}: compiling for inputs of {' x '.join(map(str, inputs.shape))} ...")
        with self.left_out():
            yield
        self._skipped += 1

    @contextlib.contextmanager
    def left_out(self, pending: Any = None) -> Iterator[None]:
        """What is done inside is no step; `pending`, arrays of steps under way, is waited for before it."""
        jax.block_until_ready(pending)
        before = time.perf_counter()
        yield
        self._other += time.perf_counter() - before

    def look(self, step: int) -> float | None:
        """Seconds of a step since the last look; None where every one was compiled."""
        now = time.perf_counter()
        num_steps, seconds = step - self._step - self._skipped, now - self._since - self._other
        self._step, self._since, self._other, self._skipped = step, now, 0.0, 0
        return seconds / num_steps if num_steps > 0 else None
