"""The loop: batches in, steps, and hooks at their intervals. It knows no method and no data set."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import jax
from ml_collections import ConfigDict

from codir_jax.processes import console
from codir_jax.processes.stop import Interrupted, StopRequest
from codir_jax.training.metrics import MetricBuffer
from codir_jax.training.pace import Pace
from codir_jax.training.state import TrainState


def default_config() -> ConfigDict:
    """Length of the run and the intervals of its hooks; a duration is given in exactly one unit, the others are -1."""
    return ConfigDict(
        {
            "total_steps": -1,
            "total_epochs": 3.0,
            "log_every_steps": 50,
            "eval_every_steps": -1,
            "eval_every_epochs": 1.0,
            "eval_every_percent": -1.0,
            "checkpoint_every_steps": -1,
            "checkpoint_every_epochs": 1.0,
            "checkpoint_every_percent": -1.0,
            # Parts in which the models run over a batch that does not fit into memory at once; the gradient, and the
            # number of negatives, are those of the whole batch.
            "num_microbatches": 1,
            "keep_last": 2,  # newest checkpoints that stay; 2: one to fall back to where the newest is damaged
            "keep_every_steps": 0,  # checkpoints at multiples of it stay for good; 0: none
            "keep_best": 0,  # checkpoints with the best dev scores that stay; 0: none (`best/` is kept in any case)
            "max_skipped_updates": 0,  # non-finite updates left out before the run stops; 0: the first one stops it
            # At every evaluation gradient norm and cosine with the task's of each term of the loss, on the first batch;
            # it costs a gradient for each term.
            "health": False,
            "deterministic": False,  # GPUs add in a fixed order: equal runs end bit-equal, slower; a CPU always does
            "prng_impl": "threefry2x32",  # of dropout and sampling: equal numbers on every mesh; "rbg" is faster on TPU
        }
    )


@dataclasses.dataclass(frozen=True)
class Hook:
    """Something periodic: `run(step, state)` after every `every` steps and after the last one."""

    every: int
    run: Callable[[int, TrainState], None]


def run(
    step_fn: Callable,
    state: TrainState,
    frozen,
    batches: Iterable,
    *,
    start_step: int,
    num_steps: int,
    buffer: MetricBuffer,
    hooks: list[Hook],
    on_stop: Callable[[int, TrainState], None],
    name: str = "train",
    pace: Pace | None = None,
    early: tuple[int, Callable] | None = None,
) -> TrainState:
    """Runs steps start_step .. num_steps - 1.

    Args:
      step_fn: from `step.make_train_step`.
      state: before step `start_step`; its buffers are donated.
      frozen: argument of the step that never changes.
      batches: device batches of those steps, in order.
      start_step: finished steps.
      num_steps: length of the run.
      buffer: receives the metrics of each step; a hook flushes it.
      hooks: in the order in which they run.
      on_stop: called before `Interrupted` is raised; it writes the checkpoint.
      name: what the progress bar calls the run.
      pace: of a person who watches, and is told when a step compiles.
      early: (n, the step function of the first n steps of the run).

    Returns:
      The state after the last step.

    Raises:
      Interrupted: after Ctrl-C or SIGTERM.
    """
    with StopRequest() as stop, console.progress_bar(name, start_step, num_steps) as bar:
        for step, batch in zip(range(start_step + 1, num_steps + 1), batches, strict=False):
            function = early[1] if early and step <= early[0] else step_fn
            with pace.of_step(step, batch, function) if pace else contextlib.nullcontext():
                state, metrics = function(state, frozen, batch)
            buffer.append(step, metrics)
            bar.update()
            for hook in hooks:
                if step % hook.every == 0 or step == num_steps:
                    hook.run(step, state)
            if stop.is_due() and step < num_steps:
                on_stop(step, state)
                raise Interrupted(step, stop.signal_number)
    return jax.block_until_ready(state)


class TimedInput(Iterator):
    """The batches of `batches`, with the time that is spent waiting for them."""

    def __init__(self, batches: Iterable):
        self._batches = iter(batches)
        self._started: float | None = None
        self._waited = 0.0

    def __next__(self):
        before = time.perf_counter()
        batch = next(self._batches)
        after = time.perf_counter()
        if self._started is None:
            self._started = after  # the first batch starts the threads that read ahead: no waiting of the steps
        else:
            self._waited += after - before
        return batch

    def wait_share(self) -> float:
        """Waiting as a share of the time since the first batch came, in [0, 1]; 0 before the second."""
        if self._started is None:
            return 0.0
        return self._waited / max(time.perf_counter() - self._started, 1e-9)


class Clock:
    """Seconds spent in a run, over all its parts; the sum is checkpointed."""

    def __init__(self, before: float = 0.0):
        self._start = time.perf_counter() - before

    def seconds(self) -> float:
        """Seconds since the first start, without the pauses."""
        return time.perf_counter() - self._start
