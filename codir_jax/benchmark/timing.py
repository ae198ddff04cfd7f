"""Clocks of a run: spread of step times, waiting for input, compilation."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

_TRACE = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration")
_COMPILE = "/jax/core/compile/backend_compile_duration"
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


def spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    """{"median", "p5", "p95"} in milliseconds."""
    p5, median, p95 = (float(x) for x in np.percentile(np.asarray(seconds) * 1e3, (5, 50, 95)))
    return {"median": median, "p5": p5, "p95": p95}


class InputClock:
    """Iterates over `batches` and adds up the seconds in which the device had nothing to do but wait for the next one.

    Args:
      batches: device batches.
      is_idle: whether the device has finished all that it was given. A wait during which it becomes idle counts in
        full, so `seconds` is an upper bound.
    """

    def __init__(self, batches: Iterable, is_idle: Callable[[], bool]):
        self._batches, self._is_idle = batches, is_idle
        self.seconds = 0.0

    def __iter__(self) -> Iterator:
        batches = iter(self._batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            if self._is_idle():
                self.seconds += time.perf_counter() - start
            yield batch


class CompileClock:
    """While active, adds up what JAX spends on new programs.

    Attributes:
      seconds: tracing, lowering and compiling (or reading from the persistent cache).
      num_programs: programs that were compiled or read. num_cached: those that were read.
    """

    def __init__(self):
        self.seconds, self.num_programs, self.num_cached = 0.0, 0, 0

    def __enter__(self) -> "CompileClock":
        jax.monitoring.register_event_duration_secs_listener(self._add)
        jax.monitoring.register_event_listener(self._count)
        return self

    def __exit__(self, *_) -> None:
        jax.monitoring.unregister_event_duration_listener(self._add)
        jax.monitoring.unregister_event_listener(self._count)

    def _add(self, event: str, seconds: float, **_) -> None:
        if event in (*_TRACE, _COMPILE):
            self.seconds += seconds
        self.num_programs += event == _COMPILE

    def _count(self, event: str, **_) -> None:
        self.num_cached += event == _CACHE_HIT
