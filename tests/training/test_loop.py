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


def test_a_run_that_has_enough_ends_with_all_of_its_hooks():
    """Scores rise until step 4; asked again, from where it ended, it does nothing."""

    def ran(start_step):
        seen = {"log": [], "judge": []}
        state = loop.run(
            lambda state, frozen, batch: (state + 1, {}),
            start_step,
            None,
            range(100),
            start_step=start_step,
            num_steps=20,
            buffer=MetricBuffer(),
            hooks=[
                loop.Hook(5, lambda step, _: seen["log"].append(step)),
                loop.Hook(2, lambda step, _: seen["judge"].append(step)),
            ],
            on_stop=lambda *_: None,
            is_enough=lambda step: step >= 8,
        )
        return state, seen

    assert ran(0) == (8, {"log": [5, 8], "judge": [2, 4, 6, 8]})
    assert ran(8) == (8, {"log": [], "judge": []})


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
