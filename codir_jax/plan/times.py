"""Seconds of a step on a machine whose peaks are published."""

from codir_jax.plan import compilers, memory, work
from codir_jax.plan.machines import Devices
from codir_jax.plan.memory import Encoding
from codir_jax.plan.planned import PlannedStage
from codir_jax.plan.traffic import Transfer

# Reads and writes of a trained weight: its gradient is written, read for the norm and read again; weight and two
# moments are read and written; both passes read the weight; a table's gradient is filled with zeros, then added to.
# XLA expects four fifths of the bandwidth of them.
WEIGHT_PASSES = 14
# Of a logit of the vocabulary, of student and teacher, in both passes.
LOGIT_MOVED = 50
# Products that ask for all of float32, by the name of their part of a method's cost.
PRECISION = "highest"


def of_step(
    planned: PlannedStage,
    devices: Devices,
    flops: dict[str, float],
    transfers: list[Transfer],
    of: Encoding,
    utilisation: float,
) -> dict[str, float]:
    """{"encoders", "vocabulary", "contrastive", "optimizer", "busy", "exchange", "step"}, of published peaks.

    The encoders compute or move memory, whichever takes longer; the contrastive term does one after the other. "busy"
    is what a device does by itself, "step" all: a TPU sums gradients after the backward pass, a GPU behind it.

    Args:
      flops: of `estimate.step_flops`. of: a microbatch of the student.
      utilisation: share of the published peak that matrix products are assumed to reach.
    """
    machine, config = devices.machine, planned.config
    compiler = compilers.of(machine.platform, devices.count)
    rate = {side: machine.flops[config[side].dtype] for side in ("student", "teacher")}
    rate |= dict.fromkeys(planned.method_cost.flops, machine.flops[PRECISION])

    def computing(*names):
        return sum(flops.get(name, 0.0) / (utilisation * rate[name] * devices.count) for name in names)

    passes = work.student_passes(config.student.remat, config.train.num_microbatches)
    moved = passes / 3 * planned.student.num_layers * of.num_bytes(compiler.moved, planned.student)
    if planned.is_live:
        moved += planned.teacher.num_layers * of.num_bytes(compiler.moved, planned.teacher) / 3
    moved *= config.train.num_microbatches
    logits = planned.rows_on_device * planned.num_predictions * planned.student.vocab_size
    cost = planned.method_cost
    of_cosines = compiler.score_moved * cost.scores
    if cost.features:
        of_cosines += compiler.feature_moved * cost.features.held_bytes
    weights = memory.device_bytes(planned.state.params)
    seconds = {
        "encoders": max(computing("student", "teacher"), moved / machine.memory_bandwidth),
        "vocabulary": LOGIT_MOVED * logits / machine.memory_bandwidth,
        "contrastive": computing(*cost.flops) + of_cosines / machine.memory_bandwidth,
        "optimizer": WEIGHT_PASSES * weights / machine.memory_bandwidth,
    }
    busy = sum(seconds.values())
    exchange = sum(one.sent_bytes for one in transfers) / devices.bandwidth
    return {**seconds, "busy": busy, "exchange": exchange, "step": busy + max(exchange - compiler.overlaps * busy, 0.0)}
