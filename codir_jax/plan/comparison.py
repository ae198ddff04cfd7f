"""A plan beside what the compiler made of the same step."""

from collections import Counter
from collections.abc import Iterable

from codir_jax.plan import estimate
from codir_jax.plan.compiled import Compiled
from codir_jax.plan.estimate import Estimate
from codir_jax.plan.planned import PlannedStage


def compare(planned: PlannedStage, found: Estimate, compiled: Compiled) -> dict[str, tuple[float | None, float | None]]:
    """What is told -> (as planned, as compiled), on one device; None where one of them does not tell.

    "peak" is of a step by itself, with one batch: a run puts more ahead.
    """
    ahead = estimate.batch_bytes(planned, estimate.BATCHES_ON_DEVICE - 1)
    once = sum(flops / planned.loops.get(name, 1) for name, flops in found.flops.items())
    rows = {
        "peak": (found.peak_bytes - found.program_bytes - ahead, compiled.peak_bytes),
        "program": (found.program_bytes or None, compiled.program_bytes or None),
        "operations": (once / planned.stage.mesh.size, compiled.flops),
        "seconds": (found.seconds.get("busy"), compiled.seconds),
    }
    sides = _sent(found.transfers), _sent(compiled.sent)
    for name in dict.fromkeys((*sides[0], *sides[1])):
        rows[f"sent: {name}"] = tuple(side.get(name, 0.0) for side in sides)
    rows["sent"] = tuple(sum(side.values()) for side in sides)
    return rows


def _sent(transfers: Iterable) -> Counter:
    """Kind and dtype -> bytes that a device sends in a step."""
    found = Counter()
    for one in transfers:
        for dtype, num_bytes in one.by_dtype().items():
            found[f"{one.kind} {dtype}"] += num_bytes
    return found
