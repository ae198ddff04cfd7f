"""Seconds of a step, by hand: compiling and judging do not count."""

import time

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
