"""The clocks: what they count, not how long it took."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.benchmark import memory, peak
from codir_jax.benchmark.timing import CompileClock, InputClock, spread_ms


def test_spread_is_in_milliseconds():
    assert spread_ms([0.001, 0.002, 0.003]) == {"median": 2.0, "p5": 1.1, "p95": 2.9}


def test_waiting_counts_only_while_the_device_is_idle():
    def slow():
        for i in range(3):
            time.sleep(0.01)
            yield i

    idle, busy = InputClock(slow(), lambda: True), InputClock(slow(), lambda: False)
    assert list(idle) == list(busy) == [0, 1, 2]
    assert idle.seconds >= 0.03
    assert busy.seconds == 0.0


def test_new_programs_are_counted_and_only_while_the_clock_is_active():
    f = jax.jit(lambda x: jnp.sin(x) + 3.25)
    one, two = np.float32(1), np.zeros(2, np.float32)
    with CompileClock() as clock:
        f(one), f(one)
        assert clock.num_programs == 1
        f(two)
    assert clock.num_programs == 2
    assert clock.seconds > 0
    f(np.zeros(3, np.float32))
    assert clock.num_programs == 2


def test_peak_and_memory_are_positive_and_say_of_what():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    measured = peak.matrix_product_flops(sharding, 1, "float32", sizes=(16, 32), seconds=0.0)
    assert measured["flops_per_second"] > 0
    assert measured["size"] in (16, 32)
    assert memory.peak()["bytes"] > 0
    assert memory.peak()["of"] == "process"
    compiled = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((1000,), jnp.float32)).compile()
    assert 8000 <= memory.needed(compiled) < 20000
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jax.ShapeDtypeStruct((1000,), jnp.float32)).compile()
    assert 4000 <= memory.needed(donated) < 8000
