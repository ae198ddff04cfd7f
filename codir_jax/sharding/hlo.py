"""How often the instructions of a compiled program run, and what its compiler expects of them: its HLO text, read."""

import re

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_WHILE = re.compile(r" while\(")
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LIMIT = re.compile(r" = s32\[\]\S* constant\((\d+)\)")
_BELOW = re.compile(r"ROOT .* compare\(.*direction=LT")
# What an instruction runs beside itself: call, conditional, fusion; the sum of an all-reduce and the like too.
_CALLED = re.compile(r"\b(?:to_apply|calls|body|condition|(?:true|false)_computation)=%?([\w.\-]+)")
_LISTED = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def executions(hlo_text: str) -> dict[str, int]:
    """Name of a computation -> times that it runs in a step: 0 for what is left over.

    A loop whose turns the compiler does not know is told as one turn.

    Args:
      hlo_text: `compiled.as_text()` of a `jax.stages.Compiled`.
    """
    bodies, entry = _computations(hlo_text)
    times = dict.fromkeys(bodies, 0)
    times[entry] = 1
    # A computation stands before those that call it: from the last one up, its callers are known.
    for name in reversed(bodies):
        for line in bodies[name] if times[name] else ():
            turns = _turns(line, bodies) if _WHILE.search(line) else 1
            called = {*_CALLED.findall(line)}
            called |= {one.strip().lstrip("%") for some in _LISTED.findall(line) for one in some.split(",")}
            for other in called & times.keys():
                times[other] += times[name] * turns
    return times


def _turns(loop: str, bodies: dict[str, list[str]]) -> int:
    """Turns of a loop as the compiler tells them, or by its condition: an index from 0 is below a constant."""
    if told := _TURNS.search(loop):
        return int(told.group(1))
    condition = "\n".join(bodies.get(_CONDITION.search(loop).group(1), ()))
    limits = _LIMIT.findall(condition)
    return int(limits[0]) if len(limits) == 1 and _BELOW.search(condition) else 1


def estimated_cycles(hlo_text: str) -> int | None:
    """Cycles of a step as the compiler of a TPU expects them, collectives aside; None where it tells none."""
    times, total = executions(hlo_text), 0
    for name, body in _computations(hlo_text)[0].items():
        total += times[name] * sum(int(match.group(1)) for line in body if (match := _CYCLES.search(line)))
    return total or None


def computation_at(hlo_text: str, position: int) -> str:
    """Name of the computation that a position of the text lies in."""
    start = max(hlo_text.rfind("\n%", 0, position), hlo_text.rfind("\nENTRY ", 0, position))
    match = _COMPUTATION.match(hlo_text[start + 1 : hlo_text.find("\n", start + 1)])
    return match.group(2) if match else ""


def _computations(hlo_text: str) -> tuple[dict[str, list[str]], str]:
    """(name -> its lines, name of the one that is run)."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in hlo_text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match.group(2)
            bodies[name] = []
            entry = name if match.group(1) else entry
        elif line.startswith(" ") and name:
            bodies[name].append(line)
    return bodies, entry
