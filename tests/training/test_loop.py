"""The loop: no step waits for the host, waiting for input is counted, hooks run at their steps."""

import time

import pytest

from codir_jax.training import loop
from codir_jax.training.metrics import MetricBuffer


class Unread:
    """A metric on the device: reading it would wait for the step."""

    def __array__(self, *_, **__):
        raise AssertionError("a step was waited for")

    __float__ = __bool__ = __array__


def test_between_two_log_steps_nothing_is_read_from_the_device():
    def step_fn(state, frozen, batch):
        return state + 1, {"loss": (Unread(), Unread())}

    seen = []
    state = loop.run(
        step_fn,
        0,
        None,
        range(100),
        start_step=0,
        num_steps=7,
        buffer=MetricBuffer(),
        hooks=[loop.Hook(3, lambda step, state: seen.append((step, state)))],
        on_stop=lambda *_: None,
    )
    assert state == 7
    assert seen == [(3, 3), (6, 6), (7, 7)]


def test_the_share_of_waiting_starts_with_the_first_batch(monkeypatch):
    """The first batch takes 5 s, the next two 1 s each, and each step 3 s: 2 of 11 seconds are waited."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def batches():
        for seconds in (5, 1, 1):
            now[0] += seconds
            yield seconds

    timed = loop.TimedInput(batches())
    assert timed.wait_share() == 0
    for _ in timed:
        now[0] += 3
    assert timed.wait_share() == pytest.approx(2 / 11)
