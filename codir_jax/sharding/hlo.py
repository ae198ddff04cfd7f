"""How often the instructions of a compiled program run, and what its compiler expects of them: its HLO text, read."""

import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_WHILE = re.compile(r" while\(.*?\bbody=%?([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# What an instruction runs beside itself: call, conditional, fusion; the sum of an all-reduce and the like too.
_CALLED = re.compile(r"\b(?:to_apply|calls|body|condition|(?:true|false)_computation)=%?([\w.\-]+)")
_LISTED = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def lines(hlo_text: str) -> Iterator[tuple[str, int]]:
    """(instruction, times that it runs in a step) for every line of a program that runs at all.

    A loop whose turns the compiler does not know is told as one turn.

    Args:
      hlo_text: `compiled.as_text()` of a `jax.stages.Compiled`.
    """
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in hlo_text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match.group(2)
            bodies[name] = []
            entry = name if match.group(1) else entry
        elif line.startswith(" ") and name:
            bodies[name].append(line)
    times = dict.fromkeys(bodies, 0)
    times[entry] = 1
    # A computation stands before those that call it: from the last one up, its callers are known.
    for name in reversed(bodies):
        for line in bodies[name] if times[name] else ():
            loop = _WHILE.search(line)
            turns = int(found.group(1)) if loop and (found := _TURNS.search(line)) else 1
            called = {*_CALLED.findall(line)}
            called |= {one.strip().lstrip("%") for some in _LISTED.findall(line) for one in some.split(",")}
            for other in called & times.keys():
                times[other] += times[name] * turns
    for name, body in bodies.items():
        for line in body if times[name] else ():
            yield line, times[name]


def estimated_cycles(hlo_text: str) -> int | None:
    """Cycles of a step as the compiler of a TPU expects them, collectives aside; None where it tells none."""
    found = [int(match.group(1)) * times for line, times in lines(hlo_text) if (match := _CYCLES.search(line))]
    return sum(found) if found else None
