"""How often a compiled program runs its parts: by a hand-written text, and by programs whose loops are known."""

import jax
import jax.numpy as jnp
import pytest

from codir_jax.sharding import hlo

TEXT = """HloModule jit_step, num_partitions=8

%below (p: (s32[], f32[4])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(6)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %constant.1), direction=LT
}

%inner (x: f32[4]) -> f32[4] {
  ROOT %a = f32[4] add(%x, %x), backend_config={"window_config":{"estimated_cycles":"10"}}
}

%turn (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %b = f32[4] call(%y), to_apply=%inner, backend_config={"window_config":{"estimated_cycles":"100"}}
}

%left_over (x: f32[4]) -> f32[4] {
  ROOT %c = f32[4] add(%x, %x), backend_config={"window_config":{"estimated_cycles":"7"}}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]) while(%t), condition=%below, body=%turn
  %v = (s32[], f32[4]) while(%t), condition=%free, body=%turn, backend_config={"known_trip_count":{"n":"2"}}
  ROOT %d = f32[4] call(%x), to_apply=%inner
}
"""


def test_a_loop_runs_its_body_as_often_as_it_turns():
    assert hlo.executions(TEXT) == {"below": 6, "inner": 9, "turn": 8, "left_over": 0, "main": 1}


def test_cycles_add_up_over_turns_and_what_is_left_over_counts_nothing():
    assert hlo.estimated_cycles(TEXT) == 9 * 10 + 8 * 100
    assert hlo.estimated_cycles("ENTRY %main (x: f32[]) -> f32[] {\n  ROOT %x = f32[] parameter(0)\n}\n") is None


def test_a_place_in_the_text_is_in_a_computation():
    assert hlo.computation_at(TEXT, TEXT.index("%b = ")) == "turn"
    assert hlo.computation_at(TEXT, TEXT.index("%w = ")) == "main"


@pytest.mark.parametrize("turns", [3, 5])
def test_the_turns_of_a_scan_are_read_from_a_program(turns):
    def step(x):
        return jax.lax.scan(lambda x, _: (jnp.sin(x) @ x, None), x, length=turns)[0]

    text = jax.jit(step).lower(jnp.ones((8, 8))).compile().as_text()
    assert turns in hlo.executions(text).values()
