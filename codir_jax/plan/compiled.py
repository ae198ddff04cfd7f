"""The real step of a plan, compiled for its machine, and what the compiler tells of it. Nothing is run."""

import contextlib
import dataclasses
import time
from typing import Any

import jax
from jax.sharding import NamedSharding

from codir_jax.plan import topology
from codir_jax.plan.machines import Devices, TpuTarget
from codir_jax.plan.planned import PlannedStage
from codir_jax.sharding import collectives, hlo
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding.collectives import Collective
from codir_jax.stage.assembled import Stage
from codir_jax.stage.teacher import kept_shapes


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiler tells of a step of the longest batches; bytes and operations are of one device.

    Attributes:
      peak_bytes: most that is in use at a time, the program itself aside.
      program_bytes: of the program; 0 where the compiler does not tell.
      flops: operations, the body of a loop counted once; None where the compiler does not tell.
      seconds: of a step beside its collectives, as the compiler expects it; None where it does not.
      sent: the collectives.
      compile_seconds: that it took on this machine.
    """

    peak_bytes: int
    program_bytes: int
    flops: float | None
    seconds: float | None
    sent: list[Collective]
    compile_seconds: float


def compile_step(planned: PlannedStage, on: Devices) -> Compiled:
    """The step of a plan as the compiler of its machine makes it; `processes.environment.set_for_compilers` is first.

    Raises:
      UserError: the compiler is not installed, or there is none for the machine.
    """
    devices = topology.devices(on)
    started = time.perf_counter()
    with _without_cache():
        compiled = lower(planned, devices).compile(compiler_options=topology.compiler_options(on))
    seconds, text, memory = time.perf_counter() - started, compiled.as_text(), compiled.memory_analysis()
    target, cycles = on.machine.compiler, hlo.estimated_cycles(text)
    peak = memory.peak_memory_in_bytes
    if target is None:  # the compiler for CPU leaves its scratch out of the peak
        kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
        peak = memory.argument_size_in_bytes + kept + memory.temp_size_in_bytes
    return Compiled(
        peak_bytes=peak,
        program_bytes=memory.generated_code_size_in_bytes,
        flops=(compiled.cost_analysis() or {}).get("flops"),
        seconds=cycles / target.clock if cycles and isinstance(target, TpuTarget) else None,
        sent=collectives.parse(text),
        compile_seconds=seconds,
    )


@contextlib.contextmanager
def _without_cache():
    """Programs of machines that are not here are none of the cache of compiled programs."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def lower(planned: PlannedStage, devices: list[jax.Device]) -> jax.stages.Lowered:
    """The step of the longest batches for some devices, which need not be here."""
    config, like = planned.config, planned.stage
    mesh = mesh_lib.make_mesh(config.mesh, devices)
    stage = Stage.of(config, mesh, parts=(like.task, like.student, like.teacher))

    def on_mesh(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, leaf.sharding.spec))

    abstract = jax.tree.map(on_mesh, (planned.state, planned.frozen))
    return stage.initial_state.step(abstract).lower(*abstract, _batch(planned, stage))


def _batch(planned: PlannedStage, stage: Stage) -> dict[str, Any]:
    """Shapes of a batch, with the teacher's rows where they are kept."""
    rows, split = planned.config.data.batch_size, stage.feed.sharding
    shapes = {}
    for name, value in stage.feed.example().items():
        columns = planned.num_predictions if name.startswith("masked") else planned.longest
        shapes[name] = ((rows, columns) if value.ndim == 2 else (rows,), value.dtype)
    if planned.cache_bytes:
        shapes |= {name: ((rows, *shape), "float32") for name, shape in kept_shapes(stage).items()}
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=split) for name, (shape, dtype) in shapes.items()}
