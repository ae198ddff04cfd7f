"""A plan beside what the compiler made of the same step."""

from collections import Counter
from collections.abc import Iterable

from codir_jax.plan import estimate
from codir_jax.plan.compiled import Compiled
from codir_jax.plan.estimate import Estimate
from codir_jax.plan.planned import PlannedStage
from codir_jax.plan.report import duration, size
from codir_jax.plan.traffic import Transfer
from codir_jax.sharding import collectives
from codir_jax.sharding.collectives import Collective

NOTE = "Loops count once in operations; seconds are without collectives."
DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def compare(planned: PlannedStage, found: Estimate, compiled: Compiled) -> dict[str, tuple[float | None, float | None]]:
    """What is told -> (as planned, as compiled), on one device; None where one of them does not tell.

    "peak" is of a step by itself, with one batch: a run puts more ahead.
    """
    ahead = estimate.batch_bytes(planned, estimate.BATCHES_ON_DEVICE - 1)
    # Compilers count the body of a loop once.
    parts = dict.fromkeys(("student", "teacher"), planned.config.train.num_microbatches)
    once = sum(flops / parts.get(name, 1) for name, flops in found.flops.items())
    rows = {
        "peak": (found.peak_bytes - found.program_bytes - ahead, compiled.peak_bytes),
        "program": (found.program_bytes / estimate.num_programs(planned) or None, compiled.program_bytes or None),
        "operations": (once / planned.stage.mesh.size, compiled.flops),
        "seconds": (found.seconds.get("busy"), compiled.seconds),
    }
    sides = _planned_sent(found.transfers), _compiled_sent(compiled.sent)
    for name in dict.fromkeys((*sides[0], *sides[1])):
        rows[f"sent: {name}"] = tuple(side.get(name, 0.0) for side in sides)
    rows["sent"] = tuple(sum(side.values()) for side in sides)
    return rows


def _planned_sent(transfers: Iterable[Transfer]) -> Counter:
    """Kind and dtype -> bytes that a device sends in a step."""
    found = Counter()
    for one in transfers:
        found[f"{one.kind} {one.dtype}"] += one.sent_bytes
    return found


def _compiled_sent(sent: Iterable[Collective]) -> Counter:
    """The same of a compiled program; what it joined is told apart by dtype."""
    found = Counter()
    for one in sent:
        for dtype, share in collectives.shares(one).items():
            found[f"{one.kind} {DTYPES.get(dtype, 'integers')}"] += one.sent_bytes * share
    return found


def as_dict(planned: PlannedStage, found: Estimate, compiled: Compiled) -> dict:
    """For --json: {what: {"plan", "compiled"}} and the seconds of compilation."""
    rows = compare(planned, found, compiled)
    return {
        "compile_seconds": compiled.compile_seconds,
        **{name: {"plan": plan, "compiled": made} for name, (plan, made) in rows.items()},
    }


def text(planned: PlannedStage, found: Estimate, compiled: Compiled) -> str:
    """The same for people."""
    lines = [
        f"compiled in {duration(compiled.compile_seconds)}; one device, a step of the longest texts, one batch",
        f"{'':<28}{'plan':>12}{'compiled':>12}{'ratio':>8}",
    ]
    for name, (plan, made) in compare(planned, found, compiled).items():
        unit = {"operations": "{:.3g}".format, "seconds": "{:.3g} s".format}.get(name, size)
        ratio = f"{plan / made:.2f}" if plan and made else ""
        cells = ("-" if value is None else unit(value) for value in (plan, made))
        lines.append(f"{name:<28}{''.join(f'{cell:>12}' for cell in cells)}{ratio:>8}".rstrip())
    return "\n".join([*lines, "-: not told. " + NOTE])
