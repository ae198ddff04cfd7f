"""The loop: batches in, steps, and hooks at their intervals. It knows no method and no data set."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import jax
from ml_collections import ConfigDict

from codir_jax.processes import console
from codir_jax.processes.fields import MAX_STEPS, defaults, field
from codir_jax.processes.stop import CutShort, Interrupted, StopRequest
from codir_jax.training.metrics import MetricBuffer
from codir_jax.training.pace import Pace
from codir_jax.training.state import TrainState

PRNG_IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")


_TOTAL = "length of the run, in exactly one of its units"
_EVAL = "interval of evaluations, in exactly one of its units"
_SAVE = "interval of checkpoints, in exactly one of its units"
FIELDS = {
    # A duration is given in exactly one unit, the others are -1.
    "total_steps": field(-1, _TOTAL, at_least=1, at_most=MAX_STEPS, also=(-1,)),
    "total_epochs": field(3.0, _TOTAL, above=0, at_most=1e6, also=(-1,)),
    # Of a run whose length is given in epochs: those of few rows are few steps. A length of the user's own is taken as
    # it is, see stage.config.load.
    "at_least_steps": field(0, "steps of a run at least; 0: none", at_least=0, at_most=MAX_STEPS),
    "log_every_steps": field(50, "interval of the lines that are logged", at_least=1, at_most=MAX_STEPS, binds=False),
    "eval_every_steps": field(-1, _EVAL, at_least=1, at_most=MAX_STEPS, also=(-1,)),
    "eval_every_epochs": field(1.0, _EVAL, above=0, at_most=1e6, also=(-1,)),
    "eval_every_percent": field(-1.0, _EVAL, above=0, at_most=100, also=(-1,)),
    # The learning rate is that of the whole run all the same.
    "patience": field(
        0, "evaluations without a better dev score that end the run; 0: none", at_least=0, at_most=MAX_STEPS
    ),
    "checkpoint_every_steps": field(-1, _SAVE, at_least=1, at_most=MAX_STEPS, also=(-1,), binds=False),
    "checkpoint_every_epochs": field(1.0, _SAVE, above=0, at_most=1e6, also=(-1,), binds=False),
    "checkpoint_every_percent": field(-1.0, _SAVE, above=0, at_most=100, also=(-1,), binds=False),
    # For a batch that does not fit into memory at once; the gradient, and the number of negatives, are those of the
    # whole batch.
    "num_microbatches": field(1, "parts in which the models run over a batch", at_least=1, at_most=1_000_000),
    # 2: one to fall back to where the newest is damaged.
    "keep_last": field(2, "newest checkpoints that stay", at_least=1, at_most=1_000_000, binds=False),
    "keep_every_steps": field(
        0, "checkpoints at multiples of it stay; 0: none", at_least=0, at_most=MAX_STEPS, binds=False
    ),
    # `best/` is kept in any case.
    "keep_best": field(
        0, "checkpoints with the best dev scores that stay; 0: none", at_least=0, at_most=1_000_000, binds=False
    ),
    # 0: the first one stops it.
    "max_skipped_updates": field(0, "non-finite updates left out before the run stops", at_least=0, at_most=MAX_STEPS),
    # On the first batch; it costs a gradient for each term.
    "health": field(False, "at evaluations gradient norm of each term and its cosine with the task's", binds=False),
    # GPUs add in a fixed order: slower; a CPU always does.
    "deterministic": field(False, "equal runs end bit-equal on GPUs too"),
    # "threefry2x32": equal numbers on every mesh; "rbg" is faster on TPU.
    "prng_impl": field("threefry2x32", "random numbers of dropout and sampling", words=PRNG_IMPLS),
}


def default_config() -> ConfigDict:
    """Length of the run and the intervals of its hooks."""
    return ConfigDict(defaults(FIELDS))


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
    catch_up: Callable[[int, TrainState], None] | None = None,
    is_enough: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Runs steps start_step .. num_steps - 1, or fewer.

    Args:
      step_fn: from `step.make_train_step`.
      state: before step `start_step`; its buffers are donated.
      frozen: argument of the step that never changes.
      batches: device batches of those steps, in order.
      start_step: finished steps.
      num_steps: length of the run.
      buffer: receives the metrics of each step; a hook flushes it.
      hooks: in the order in which they run; one that is cut short (`stop.may_be_cut`) ends the run.
      on_stop: called before `Interrupted` is raised; it writes the checkpoint.
      name: what the progress bar calls the run.
      catch_up: called before the first step; what the last run of the same steps was cut short in.
      pace: of a person who watches, and is told when a step compiles.
      is_enough: (finished steps) -> whether the run ends before its last step; all hooks are run then. It is asked
        before the first step too: a run may have been stopped where it would have ended.
      early: (n, the step function of the first n steps of the run).

    Returns:
      The state after the last step.

    Raises:
      Interrupted: after Ctrl-C or SIGTERM.
    """
    with StopRequest() as stop, console.progress_bar(name, start_step, num_steps) as bar:
        if catch_up:
            try:
                catch_up(start_step, state)
            except CutShort:
                on_stop(start_step, state)
                raise Interrupted(start_step, stop.signal_number) from None
        steps = itertools.takewhile(lambda step: not is_enough(step - 1), range(start_step + 1, num_steps + 1))
        for step, batch in zip(steps, batches, strict=False):
            function = early[1] if early and step <= early[0] else step_fn
            with pace.of_step(step, batch, function) if pace else contextlib.nullcontext():
                state, metrics = function(state, frozen, batch)
            buffer.append(step, metrics)
            bar.update()
            due = [hook for hook in hooks if step % hook.every == 0 or step == num_steps]
            try:
                for hook in due:
                    hook.run(step, state)
                if is_enough(step):
                    for hook in (hook for hook in hooks if hook not in due):
                        hook.run(step, state)
                is_due = stop.is_due()
            except CutShort:
                is_due = True
            if is_due:  # after the last step too: what comes after this run is not to begin
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
