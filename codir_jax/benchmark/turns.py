"""Ours and theirs in turns: the ratio of both, and epochs of a stage as an arm of `evaluation.turns`."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from codir_jax.stage.assembled import Stage
from codir_jax.tasks.contract import train_batches
from codir_jax.training.metrics import MetricBuffer


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
