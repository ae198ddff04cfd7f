"""Seconds of a step, by hand: compiling and judging do not count, steps that judging waits for do."""

import time

import jax
import numpy as np

from codir_jax.training.pace import Pace


def test_what_compiles_is_told_and_only_other_steps_count(monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    pace = Pace(10, told.append)

    def take(step, length, seconds):
        with pace.of_step(step, {"input_ids": np.zeros((32, length)), "labels": np.zeros(32)}):
            now[0] += seconds

    take(11, 8, 20.0)
    assert pace.look(11) is None
    for step, length, seconds in ((12, 8, 1.0), (13, 16, 30.0), (14, 16, 3.0)):
        take(step, length, seconds)
    with pace.left_out():
        now[0] += 100.0
    assert pace.look(14) == (1.0 + 3.0) / 2
    assert told == [f"step {s}: compiling for inputs of 32 x {n} ..." for s, n in ((11, 8), (13, 16))]


def test_steps_that_are_under_way_when_a_model_is_judged_count(monkeypatch):
    now, waited = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def finish(arrays):
        waited.append(arrays)
        now[0] += 8.0  # two steps that were handed over and are not done

    monkeypatch.setattr(jax, "block_until_ready", finish)
    pace = Pace(10, print)
    with pace.left_out("state"):
        now[0] += 100.0
    assert waited == ["state"] and pace.look(12) == 4.0
