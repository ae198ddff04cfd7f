"""Everything that `codir plan` tells of a planned stage, as numbers."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from codir_jax.evaluation import cost
from codir_jax.losses import vocabulary
from codir_jax.models.heads import abstract_params
from codir_jax.plan import compilers, memory, times, traffic, work
from codir_jax.plan.compilers import Compiler
from codir_jax.plan.machines import Devices
from codir_jax.plan.memory import Encoding
from codir_jax.plan.planned import PlannedStage
from codir_jax.plan.traffic import Transfer
from codir_jax.sharding import rules
from codir_jax.stage.teacher import kept_shapes

# Batches that lie on a device: the one that is used and those put ahead.
BATCHES_ON_DEVICE = 3


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Numbers of a planned stage; bytes are of one device, seconds of a step.

    Attributes:
      parameters: "student", "teacher" -> scalars.
      held: kind -> bytes that stay. passing: kind -> bytes at the peak of a step; activations and gradients do not meet
        in full, so that the larger of the two counts.
      flops: "student", "teacher", "contrastive", "optimizer" -> operations of a step on all devices, the mean over the
        batches' lengths.
      transfers: collectives of a step.
      host_bytes: of the data on every host. cache_bytes: of the teacher cache on disk.
      program_bytes: of the programs where they lie in the device's memory, as on a TPU: one of each padded length.
      seconds: of `times.of_step`, "early" of a step before the head joins, and "run", with the one pass of a cached
        teacher; empty without published peaks.
    """

    parameters: dict[str, int]
    held: dict[str, int]
    passing: dict[str, float]
    flops: dict[str, float]
    transfers: list[Transfer]
    host_bytes: float
    cache_bytes: int
    program_bytes: float
    seconds: dict[str, float]

    @property
    def peak_bytes(self) -> float:
        """Most bytes of a device in use at a time."""
        return sum(self.held.values()) + max(self.passing.values()) + self.program_bytes


def estimate(planned: PlannedStage, devices: Devices | None = None, utilisation: float = 0.4) -> Estimate:
    """The numbers of a planned stage.

    Args:
      devices: what it runs on; None leaves out the time.
      utilisation: share of the published peak that matrix products are assumed to reach.
    """
    config = planned.config
    held = memory.held(planned.state, planned.frozen)
    held["batches"] = batch_bytes(planned)
    platform = devices.machine.platform if devices else "cpu"
    passing = passing_bytes(planned, platform)
    flops = step_flops(planned)
    found = transfers(planned, devices)
    seconds = {}
    if devices and devices.machine.flops:
        of = encoding(planned, "student", platform)
        seconds = times.of_step(planned, devices, flops, found, of, utilisation)
        rate = utilisation * devices.machine.flops[config.teacher.dtype] * devices.count
        num_early = planned.stage.initial_state.num_early_steps
        seconds["run"] = _teacher_pass_flops(planned) / rate + (planned.stage.num_steps - num_early) * seconds["step"]
        if num_early:
            without_head = dataclasses.replace(planned, has_head=False, num_predictions=0)
            early = step_flops(without_head), transfers(without_head, devices)
            seconds["early"] = times.of_step(without_head, devices, *early, of, utilisation)["step"]
            seconds["run"] += num_early * seconds["early"]
    return Estimate(
        parameters={
            "student": _count(planned.stage.student.module),
            "teacher": _count(planned.stage.teacher.module) if planned.teacher else 0,
        },
        held=held,
        passing=passing,
        flops=flops,
        transfers=found,
        host_bytes=planned.host_bytes,
        cache_bytes=planned.cache_bytes,
        program_bytes=num_programs(planned) * program_bytes(planned, platform),
        seconds=seconds,
    )


def _count(module) -> int:
    return cost.count_parameters(rules.unbox(abstract_params(module)))


def encoding(planned: PlannedStage, side: str, platform: str) -> Encoding:
    """A microbatch of the longest texts on one device. XLA for CPU computes bfloat16 in float32."""
    rows = planned.rows_on_device / planned.config.train.num_microbatches
    itemsize = 4 if platform == "cpu" else jnp.dtype(planned.config[side].dtype).itemsize
    return Encoding(rows, planned.longest, planned.stage.mesh.shape[rules.MODEL], itemsize)


def batch_bytes(planned: PlannedStage, count: int = BATCHES_ON_DEVICE) -> int:
    """Bytes of `count` batches of the longest texts on one device."""
    numbers = 3 * planned.longest + 3 * planned.num_predictions + 5
    if planned.cache_bytes:
        numbers += sum(math.prod(shape) for shape in kept_shapes(planned.stage).values())
    return int(4 * count * numbers * planned.rows_on_device)


def passing_bytes(planned: PlannedStage, platform: str) -> dict[str, float]:
    """{"activations", "gradients"}: bytes on one device during a step.

    Args:
      platform: "cpu", "gpu" or "tpu", whose compilers keep different things.
    """
    compiler = compilers.of(platform, planned.stage.mesh.size)
    teacher = planned.teacher if planned.is_live else None
    of = encoding(planned, "student", platform)
    kept = memory.activations(
        planned.student, teacher, of, planned.config.student.remat, compiler, _loss_bytes(planned, compiler)
    )
    if (num := planned.config.train.num_microbatches) > 1:
        # The word embeddings of the whole batch, and their gradient.
        kept += 2 * num * of.hidden(planned.student) * of.itemsize
    decoder = _tied_decoder(planned)
    kept += memory.device_bytes(decoder)  # its gradient, which is made first
    kept += traffic.kept_bytes(planned.state.params, decoder, compiler.gathered)
    gradients = memory.device_bytes(planned.state.params)
    return {"activations": kept, "gradients": 2 * gradients}  # as computed, and as added up


def num_programs(planned: PlannedStage) -> int:
    """Compiled steps of a run: of each padded length, and those of the steps before the head joins."""
    return len(planned.length_buckets) * (2 if planned.stage.initial_state.num_early_steps else 1)


def program_bytes(planned: PlannedStage, platform: str) -> float:
    """Bytes of a step's program in the memory of a device: a part, and a part for each layer that it unrolls."""
    alone, of_a_layer = compilers.of(platform, planned.stage.mesh.size).program
    config = planned.config
    student = planned.student.num_layers * work.student_passes(config.student.remat, config.train.num_microbatches)
    teacher = planned.teacher.num_layers if planned.is_live else 0
    return alone + of_a_layer * (student + teacher) / 3


def _loss_bytes(planned: PlannedStage, compiler: Compiler) -> float:
    """Bytes that the losses have in use on one device: logits, scores, features of the whole batch."""
    cost = planned.method_cost
    features = compiler.feature_copies * cost.features.held_bytes if cost.features else 0.0
    return _vocabulary_bytes(planned) + compiler.score_bytes * cost.scores + features


def _vocabulary_bytes(planned: PlannedStage) -> float:
    """Logits of a masked LM on one device: a chunk of the vocabulary at a time, of student and teacher."""
    if not planned.num_predictions:
        return 0.0
    vocab, chunk = planned.student.vocab_size, planned.config.objective.vocab_chunk_size
    columns = vocab / vocabulary.num_chunks(vocab, chunk)
    return memory.LOGIT_BYTES * planned.rows_on_device * planned.num_predictions * columns


def step_flops(planned: PlannedStage) -> dict[str, float]:
    """Operations of a step on all devices, the mean over the padded lengths."""
    config, total = planned.config, {"student": 0.0, "teacher": 0.0}
    teacher = planned.teacher if planned.is_live else None
    for length, share in zip(planned.length_buckets, planned.shares, strict=True):
        found = work.encoders(
            planned.student,
            teacher,
            planned.outputs,
            length,
            config.data.batch_size,
            remat=config.student.remat,
            num_microbatches=config.train.num_microbatches,
        )
        total = {side: total[side] + share * value for side, value in found.items()}
    # Devices of the model axis all do the same.
    total |= {name: value * planned.stage.mesh.shape[rules.MODEL] for name, value in planned.method_cost.flops.items()}
    weights = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(planned.state.params))
    return {**total, "optimizer": float(work.OPTIMIZER_FLOPS * weights * planned.stage.mesh.size)}


def _teacher_pass_flops(planned: PlannedStage) -> float:
    """Operations of the one pass of a teacher whose outputs are kept."""
    if not planned.cache_bytes:
        return 0.0
    per_text = (cost.model_flops(planned.teacher, length, planned.outputs) for length in planned.length_buckets)
    mean = sum(share * flops for share, flops in zip(planned.shares, per_text, strict=True))
    return planned.num_train * mean


def transfers(planned: PlannedStage, devices: Devices | None = None) -> list[Transfer]:
    """The collectives of a step with the longest texts."""
    platform = devices.machine.platform if devices else "cpu"
    return traffic.transfers(
        params=planned.state.params,
        decoder=_tied_decoder(planned),
        kernel_gradients=_kernel_gradients(planned),
        teacher=planned.frozen.get("teacher"),
        student_sizes=planned.student,
        teacher_sizes=planned.teacher if planned.is_live else None,
        of=encoding(planned, "student", ""),
        mesh_sizes=dict(planned.stage.mesh.shape),
        num_microbatches=planned.config.train.num_microbatches,
        features=planned.method_cost.features,
        gather="all-reduce" if devices and devices.gathers_by_sums else "all-gather",
        scatter="reduce-scatter" if platform == "gpu" else "all-reduce",
        gathered=compilers.of(platform, planned.stage.mesh.size).gathered,
    )


def _tied_decoder(planned: PlannedStage):
    """The word embedding where it is the decoder of predicted tokens too."""
    if not planned.num_predictions:
        return {}
    return planned.state.params["student"]["encoder"]["embeddings"]["word"]


def _kernel_gradients(planned: PlannedStage) -> str:
    """Dtype of the gradients of kernels, and of their sum over devices."""
    options = planned.config.optimizer
    return options.gradient_dtype if planned.config.student.dtype == "bfloat16" else "float32"
