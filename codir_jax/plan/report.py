"""What `codir plan` prints, and the table at the start of a run."""

import json
from typing import Any

import jax

from codir_jax.plan import memory
from codir_jax.plan import planned as planned_lib
from codir_jax.plan.estimate import Estimate, num_programs, passing_bytes
from codir_jax.plan.machines import Devices
from codir_jax.plan.planned import PlannedStage
from codir_jax.processes import distributed
from codir_jax.stage.assembled import Stage

ASSUMPTIONS = """\
assumed: matrix products reach {utilisation:.0%} of the published peak (--utilisation) and collectives the published
bandwidth; a GPU sums gradients behind its backward pass, a TPU after it. Memory and collectives were compared with
programs that XLA compiled for v5e, v5p, H200 and CPU (codir_jax/plan/README.md); --compile does it for this one."""
PARTS = ("encoders", "vocabulary", "contrastive", "optimizer", "exchange")
CPU_NOTE = "cpu: counted as XLA for CPU does it, which keeps all activations, in float32, whatever remat and dtype say."


def as_dict(
    planned: PlannedStage, devices: Devices, found: Estimate, told: str, advice: list[str], utilisation: float
) -> dict:
    """All numbers, for --json."""
    return {
        "devices": {"name": devices.name, "count": devices.count, "hosts": devices.hosts},
        "mesh": dict(planned.stage.mesh.shape),
        "data": told,
        "examples": planned.num_train,
        "batch_size": planned.config.data.batch_size,
        "lengths": dict(zip(map(str, planned.length_buckets), planned.shares, strict=True)),
        "steps": planned.stage.num_steps,
        "epochs": planned.stage.num_steps / planned.stage.feed.steps_per_epoch,
        "parameters": found.parameters,
        "bytes_per_device": {**found.held, **found.passing, "program": found.program_bytes, "peak": found.peak_bytes},
        "device_memory_bytes": devices.machine.memory_bytes,
        "host_bytes": found.host_bytes,
        "teacher_cache_bytes": found.cache_bytes,
        "flops_per_step": found.flops,
        "collectives": [
            {"what": t.what, "kind": t.kind, "bytes": t.num_bytes, "times": t.times, "sent_bytes": t.sent_bytes}
            for t in found.transfers
        ],
        "utilisation": utilisation,
        "seconds_per_step": found.seconds,
        "seconds": found.seconds.get("run"),
        "advice": advice,
    }


def text(
    planned: PlannedStage, devices: Devices, found: Estimate, told: str, advice: list[str], utilisation: float
) -> str:
    """The same for people."""
    machine, config = devices.machine, planned.config
    mesh = " x ".join(f"{axis} {size}" for axis, size in planned.stage.mesh.shape.items())
    lines = [
        f"{devices.name}: {devices.count} devices on {devices.hosts} hosts, mesh {mesh}",
        f"data: {told}",
        f"batches of {config.data.batch_size}, padded lengths {', '.join(map(str, planned.length_buckets))}; "
        f"{planned.stage.feed.steps_per_epoch:,} steps an epoch, {planned.stage.num_steps:,} steps in all",
        "",
        *_rows("parameters", {side: f"{n:,}" for side, n in found.parameters.items() if n}),
        "",
        *_rows("bytes on a device", {name: size(n) for name, n in found.held.items() if n}),
        *_rows("  in a step", {name: size(n) for name, n in found.passing.items()}),
        *_rows("  programs", {str(num_programs(planned)): size(found.program_bytes)} if found.program_bytes else {}),
    ]
    whole = f" of {size(machine.memory_bytes)}" if machine.memory_bytes else ""
    lines += [
        *_rows("", {"peak": f"{size(found.peak_bytes)}{whole}"}),
        *_rows(
            "elsewhere", {"host memory, each": size(found.host_bytes), "teacher cache, disk": size(found.cache_bytes)}
        ),
        "",
        *_rows("operations a step", {name: f"{n:.3g}" for name, n in found.flops.items() if n}),
        "",
        *_rows(
            "collectives a step",
            {
                f"{t.what}": f"{t.kind} {size(t.num_bytes)}{f' x {t.times}' if t.times > 1 else ''}"
                for t in found.transfers
            }
            or {"none": ""},
        ),
        "",
    ]
    if machine.flops:
        of, seconds = config.student.dtype, found.seconds
        lines += [
            f"{devices.name.split('-')[0]} as published ({machine.source}):",
            f"  {of} {machine.flops[of] / 1e12:.0f} TFLOP/s, memory {size(machine.memory_bytes)} at "
            f"{machine.memory_bandwidth / 1e9:.0f} GB/s, exchange {devices.bandwidth / 1e9:.0f} GB/s one way",
            "a step: " + ", ".join(f"{seconds[part]:.3g} s {part}" for part in PARTS if seconds[part]),
            *([f"  before objective.head_from {seconds['early']:.3g} s"] if "early" in seconds else []),
            f"  in all {seconds['step']:.3g} s; the run {duration(seconds['run'])} beside compilation and evaluation",
            ASSUMPTIONS.format(utilisation=utilisation),
        ]
    else:
        lines += [CPU_NOTE, "no peaks are published for this machine, so no time is told; `codir bench` measures it."]
    return "\n".join([*lines, *(["", *advice] if advice else [])])


def at_start(stage: Stage, state, frozen) -> str:
    """A few lines before the first step of a run: processes, devices, mesh, memory on a device by kind."""
    planned = planned_lib.of_run(stage, state, frozen)
    mesh = " x ".join(f"{axis} {size}" for axis, size in stage.mesh.shape.items())
    platform = jax.default_backend()
    kinds = {name: size(n) for name, n in memory.held(state, frozen).items() if n}
    try:
        kinds["activations (estimate)"] = size(passing_bytes(planned, platform)["activations"])
    except planned_lib.NotModelledError as error:
        kinds["activations"] = str(error)
    return "\n".join(
        [
            *_rows("processes", {str(distributed.num_processes()): ""}),
            *_rows("devices", {f"{stage.mesh.size} {platform}": f"mesh {mesh}"}),
            *_rows("memory on a device", kinds),
        ]
    )


def to_json(numbers: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(numbers)


def size(num_bytes: float) -> str:
    """Bytes with a decimal unit, three digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days."""
    for limit, unit, of in ((120, "seconds", 1), (7200, "minutes", 60), (172800, "hours", 3600)):
        if seconds < limit:
            return f"{seconds / of:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def _rows(title: str, values: dict[str, str]) -> list[str]:
    """Aligned lines, the title in the first."""
    return [
        f"{title if i == 0 else '':<20}{name:<26}{value}".rstrip() for i, (name, value) in enumerate(values.items())
    ]
