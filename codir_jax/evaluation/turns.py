"""Several ways of the same work in one process, in turns: whatever else the machine does slows all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def in_turns(
    arms: Mapping[str, Callable[[], Any]],
    num_turns: int,
    say: Callable[[str], None] | None = None,
    *,
    num_warmup: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each turn of each arm. Every turn runs all of them; the first one changes from turn to turn.

    Args:
      say: is told each turn.
      num_warmup: turns before, which are not counted. tick: called after each arm.
    """
    names, seconds = list(arms), {name: [] for name in arms}
    for turn in range(-num_warmup, num_turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            arms[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
            tick()
        if say is not None and turn >= 0:
            say(f"turn {turn + 1} of {num_turns}: " + "; ".join(f"{name} {seconds[name][-1]:.2f} s" for name in names))
    return seconds
