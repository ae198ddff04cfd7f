"""The loop: no step waits for the host, waiting for input is counted, hooks run at their steps."""

import os
import signal
import time

import pytest

from codir_jax.processes import stop
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


def _ask(number):
    """Sends this process a signal, and gives the thread that takes it the time to."""
    os.kill(os.getpid(), number)
    time.sleep(0.2)


def _run_of_three(hook, *, catch_up=None):
    """(steps that were saved on a stop, what ended the run)."""
    saved = []
    with pytest.raises(loop.Interrupted) as ended:
        loop.run(
            lambda state, frozen, batch: (state + 1, {"loss": (1.0, 1.0)}),
            0,
            None,
            range(3),
            start_step=0,
            num_steps=3,
            buffer=MetricBuffer(),
            hooks=[loop.Hook(1, hook)],
            on_stop=lambda step, state: saved.append(step),
            catch_up=catch_up,
        )
    return saved, str(ended.value)


@pytest.mark.parametrize("last", [2, 3])
def test_a_stop_ends_the_run_after_that_step_also_where_it_is_the_last_one(last, capfd):
    def ask(step, state):
        if step == last:
            _ask(signal.SIGTERM)

    assert _run_of_three(ask) == ([last], f"stopped by SIGTERM after step {last}")
    assert "stopping after this step; a checkpoint is written" in capfd.readouterr().err


def test_an_evaluation_is_cut_short_by_a_stop_and_done_again(capfd):
    """Of its five batches two are run; where the run goes on, it comes before the first step."""
    seen = []

    def evaluate(step, state):
        with stop.may_be_cut():
            for batch in range(5):
                stop.poll()
                seen.append((step, batch))
                if (step, batch) == (1, 1):
                    _ask(signal.SIGINT)

    assert _run_of_three(evaluate) == ([1], "stopped by SIGINT after step 1")
    assert seen == [(1, 0), (1, 1)]

    def caught_up(step, state):
        with stop.may_be_cut():
            _ask(signal.SIGINT)
            stop.poll()

    assert _run_of_three(evaluate, catch_up=caught_up) == ([0], "stopped by SIGINT after step 0")
    stop.poll()  # nothing is active any more


def test_a_stop_that_came_before_an_evaluation_leaves_it_out():
    seen = []

    def evaluate(step, state):
        _ask(signal.SIGTERM)
        with stop.may_be_cut():
            seen.append(step)

    assert _run_of_three(evaluate)[0] == [1] and not seen


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
