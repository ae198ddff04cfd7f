"""`codir plan`: reads a config and a machine, tells what the run needs, and what to change where it does not fit."""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.plan import comparison, compiled, estimate, machines, report
from codir_jax.plan import planned as planned_lib
from codir_jax.plan.machines import Devices
from codir_jax.plan.planned import PlannedStage
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import checks, models
from codir_jax.stage import config as stage_config
from codir_jax.stage.assembled import make_tokenizer
from codir_jax.tasks.contract import Outline, task_module

# Of a device's memory that a plan may fill.
FILL = 0.8


def run(
    spec: str,
    overrides: Sequence[tuple[str, str]],
    *,
    devices: str,
    hosts: int = 0,
    teacher: str = "",
    num_examples: int = 0,
    length: int = 0,
    utilisation: float = 0.4,
    compiles: bool = False,
    as_json: bool = False,
) -> str:
    """What `codir plan` prints; arguments as its flags."""
    if not 0 < utilisation <= 1:
        raise UserError(f"--utilisation must be in (0, 1], got {utilisation}")
    for name, value in (("examples", num_examples), ("length", length)):
        if value < 0:
            raise UserError(f"--{name} must be at least 1, got {value}")
    on = machines.parse(devices, hosts)
    config = stage_config.load(spec, overrides)
    checked = config.copy_and_resolve_references()
    checked.teacher.path = checked.teacher.path or teacher
    stage_config.check(checked)
    if length > config.data.max_length:
        raise UserError(f"--length={length} is above data.max_length {config.data.max_length}")
    outline = read_outline(config, on, num_examples, length)
    planned = plan(config, on, teacher or config.teacher.path, outline)
    found = estimate.estimate(planned, on, utilisation)
    made = None
    if compiles:
        print(f"compiling a step for {devices}; it may take minutes", file=sys.stderr, flush=True)
        made = compiled.compile_step(planned, on)
    advice = list(_advice(planned, found, config, on, teacher or config.teacher.path, outline))
    arguments = planned, on, found, outline.told, advice, utilisation
    if as_json:
        numbers = report.as_dict(*arguments)
        return report.to_json(numbers | ({"compiled": comparison.as_dict(planned, found, made)} if made else {}))
    return report.text(*arguments) + ("\n\n" + comparison.text(planned, found, made) if made else "")


def read_outline(config: ConfigDict, on: Devices, num_examples: int = 0, length: int = 0) -> Outline:
    """The train set of a config by its sizes; a tokenizer is used where it is here.

    Args:
      num_examples, length: in the place of what the data have, where they are not 0.

    Raises:
      NotModelledError: the task gives no outline.
    """
    task = task_module(config.task.name)
    if not hasattr(task, "outline"):
        raise planned_lib.NotModelledError(
            f"task.name={config.task.name!r} is not modelled: it gives no outline of its data"
        )
    tokenizer = None
    if not (num_examples and length):
        path = config.tokenizer_path or config.teacher.path or config.student.path
        tokenizer = task.fresh_tokenizer(config) if not path else None
        if path and Path(path).expanduser().is_dir():
            tokenizer = make_tokenizer(config)
    return task.outline(config, num_examples, length, tokenizer, on.machine.platform)


def plan(config: ConfigDict, on: Devices, teacher: str, outline: Outline) -> PlannedStage:
    """The stage of a config on devices of any machine.

    Raises:
      UserError: a mesh or a batch that the devices do not divide, a text longer than the model takes.
    """
    sizes = mesh_lib.sizes_of(config.mesh, on.count)
    mesh, table = AbstractMesh(tuple(sizes.values()), tuple(sizes)), mesh_lib.rules_of(config.mesh)
    checks.check_batch_sizes(config, rules.num_batch_shards(mesh, table), on.hosts)
    return planned_lib.of_config(config, models.read_sizes(teacher, "teacher.path") if teacher else None, outline, mesh)


def _advice(planned: PlannedStage, found, config, on: Devices, teacher: str, outline: Outline) -> Iterator[str]:
    """Sentences on what does not fit and which single change would help."""
    if "neighbours" in planned.frozen:
        vectors = 4 * math.prod(planned.frozen["teacher_pooled"].shape)
        yield (
            f"note: before the first step {report.size(vectors)} of the teacher's states lie whole on every device, "
            "while hard negatives are searched (objective.negatives.num_hard)"
        )
    bank = jax.tree.leaves(planned.state.objective_state.get("bank", {}))
    if bank and (parts := bank[0].shape[0] // bank[0].sharding.shard_shape(bank[0].shape)[0]) < on.count:
        yield (
            f"note: the bank's {bank[0].shape[0]:,} rows are split over {parts} of {on.count} devices only: "
            "the devices do not divide them"
        )
    capacity = on.machine.memory_bytes
    if capacity is None or found.peak_bytes <= FILL * capacity:
        return
    yield (
        f"DOES NOT FIT: {report.size(found.peak_bytes)} on a device of {report.size(capacity)}, of which {FILL:.0%} "
        "may be planned. One change at a time gives:"
    )
    for key, values in _changes(planned, config).items():
        for value in values:
            changed = config.copy_and_resolve_references()
            config_lib.set_from_text(changed, key, value)
            try:
                other = estimate.estimate(plan(changed, on, teacher, outline), on).peak_bytes
            except UserError:  # sizes that do not divide
                continue
            if other < 0.98 * found.peak_bytes:
                fits = other <= FILL * capacity
                yield f"  --config.{key}={value}: {report.size(other)}, {'fits' if fits else 'not enough alone'}"
                if fits:
                    break


def _changes(planned: PlannedStage, config: ConfigDict) -> dict[str, list[str]]:
    """Key -> values to try, the mildest first."""
    rows = int(planned.rows_on_device)
    parts = (2**i for i in range(1, 8))
    changes = {"train.num_microbatches": [str(n) for n in parts if config.train.num_microbatches < n <= rows]}
    if config.student.remat == "none":
        changes["student.remat"] = ["dots", "block"]
    if config.student.dtype == "float32":
        changes["student.dtype"] = ["bfloat16"]
    if planned.is_live and config.teacher.dtype == "float32":
        changes["teacher.dtype"] = ["bfloat16"]
    if config.mesh.fsdp == 1 and config.mesh.data == -1:
        changes["mesh.fsdp"] = [str(n) for n in (4, 16, 64) if planned.stage.mesh.size % n == 0]
    sources = config.objective.get("negatives", {}).get("source", "").split("+")
    if "bank" in sources:
        changes["objective.negatives.source"] = ["+".join("queue" if s == "bank" else s for s in sources)]
    return changes
