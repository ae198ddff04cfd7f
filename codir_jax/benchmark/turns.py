"""Several ways of the same work in one process, in turns: whatever else the machine does slows all of them."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from codir_jax.stage.assembled import Stage
from codir_jax.tasks.contract import train_batches
from codir_jax.training.metrics import MetricBuffer


def in_turns(
    arms: Mapping[str, Callable[[], Any]], num_turns: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds of each turn of each arm. Every turn runs all of them; the first one changes from turn to turn."""
    names, seconds = list(arms), {name: [] for name in arms}
    for turn in range(num_turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            arms[name]()
            seconds[name].append(time.perf_counter() - start)
        say(f"turn {turn + 1} of {num_turns}: " + "; ".join(f"{name} {seconds[name][-1]:.2f} s" for name in names))
    return seconds


def spread(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """{"median", "min", "max"} of the ratios of the turns: ours over theirs."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def epochs(stage: Stage, step, state, frozen, columns: Mapping[str, Any], num_epochs: int) -> Callable[[], None]:
    """A function that trains the next epoch, as a run does: batches put ahead, metrics fetched at the end.

    Args:
      step: of `InitialState.step`. state, frozen: on the devices. columns: the teacher's rows where they are kept.
      num_epochs: how often it is called at most.
    """
    feed = stage.feed
    batches = train_batches(feed, 0, num_epochs * feed.steps_per_epoch, columns)

    def epoch() -> None:
        nonlocal state
        buffer = MetricBuffer()
        for number, batch in enumerate(itertools.islice(batches, feed.steps_per_epoch)):
            state, metrics = step(state, frozen, batch)
            buffer.append(number, metrics)
        buffer.flush()
        jax.block_until_ready(state)

    return epoch
