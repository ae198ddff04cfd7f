"""Everything that `codir plan` tells of a job, as numbers."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from codir_jax.evaluation import cost
from codir_jax.losses import vocabulary
from codir_jax.models.heads import abstract_params
from codir_jax.objectives import distill
from codir_jax.plan import memory, traffic, work
from codir_jax.plan.job import Job
from codir_jax.plan.machines import Devices
from codir_jax.plan.memory import Encoding
from codir_jax.plan.traffic import Features, Transfer
from codir_jax.sharding import rules

# Batches that lie on a device: the one that is used and those put ahead.
BATCHES_ON_DEVICE = 3
# Of an example on the host: a token and its type, 5 bytes each; offset, label, mask and text id.
HOST_TOKEN_BYTES, HOST_EXAMPLE_BYTES = 5, 17


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Numbers of a job; bytes are of one device, seconds of a step.

    Attributes:
      parameters: "student", "teacher" -> scalars.
      held: kind -> bytes that stay. passing: kind -> bytes at the peak of a step; activations and gradients do not meet
        in full, so that the larger of the two counts.
      flops: "student", "teacher", "contrastive", "optimizer" -> operations of a step on all devices, the mean over the
        batches' lengths.
      transfers: collectives of a step.
      host_bytes: of the data on every host. cache_bytes: of the teacher cache on disk.
      seconds: "compute", "memory", "exchange", "step", "run", the last with the one pass of a cached teacher; empty
        without published peaks.
    """

    parameters: dict[str, int]
    held: dict[str, int]
    passing: dict[str, float]
    flops: dict[str, float]
    transfers: list[Transfer]
    host_bytes: float
    cache_bytes: int
    seconds: dict[str, float]

    @property
    def peak_bytes(self) -> float:
        """Most bytes of a device in use at a time."""
        return sum(self.held.values()) + max(self.passing.values())


def estimate(job: Job, mean_length: float, devices: Devices | None = None, utilisation: float = 0.4) -> Estimate:
    """The numbers of a job.

    Args:
      mean_length: tokens of an example, for the host's memory.
      devices: what it runs on; None leaves out the time.
      utilisation: share of the published peak that matrix products are assumed to reach.
    """
    config = job.config
    held = memory.held(job.state, job.frozen)
    held["batches"] = batch_bytes(job)
    passing = passing_bytes(job, is_cpu=devices is None or devices.machine.flops is None)
    flops = step_flops(job)
    found = transfers(job)
    seconds = {}
    if devices and devices.machine.flops:
        peak = {side: devices.machine.flops[config[side].dtype] for side in ("student", "teacher")}
        peak["contrastive"] = devices.machine.flops["float32"]
        compute = sum(flops.get(what, 0.0) / (utilisation * rate * devices.count) for what, rate in peak.items())
        # Weights and moments are read and written once, activations written and read.
        moved = 2 * (held["parameters"] + held["optimizer"]) + held["teacher"] + 2 * passing["activations"]
        moving = moved / devices.machine.memory_bandwidth
        exchange = sum(one.sent_bytes for one in found) / devices.bandwidth
        seconds = {"compute": compute, "memory": moving, "exchange": exchange, "step": max(compute, moving) + exchange}
        once = _teacher_pass_flops(job) / (utilisation * peak["teacher"] * devices.count)
        seconds["run"] = once + job.num_steps * seconds["step"]
    return Estimate(
        parameters={
            "student": _count(job.setting.student),
            "teacher": _count(job.setting.teacher) if job.teacher else 0,
        },
        held=held,
        passing=passing,
        flops=flops,
        transfers=found,
        host_bytes=_host_bytes(job, mean_length),
        cache_bytes=job.cache_bytes,
        seconds=seconds,
    )


def _host_bytes(job: Job, mean_length: float) -> float:
    """Of the data on every host. The tokens of a corpus stay on disk; its index is mapped from there too."""
    if job.setting.head == "masked_lm":
        return 0.0
    return job.num_train * (HOST_TOKEN_BYTES * mean_length + HOST_EXAMPLE_BYTES)


def _count(module) -> int:
    return cost.count_parameters(rules.unbox(abstract_params(module)))


def encoding(job: Job, side: str, *, is_cpu: bool = False) -> Encoding:
    """A microbatch of the longest texts on one device. XLA for CPU computes bfloat16 in float32."""
    shards = rules.num_batch_shards(job.mesh, job.rules)
    rows = job.config.data.batch_size / shards / job.config.train.num_microbatches
    itemsize = 4 if is_cpu else jnp.dtype(job.config[side].dtype).itemsize
    return Encoding(rows, job.batches.longest, job.mesh.shape[rules.MODEL], itemsize)


def batch_bytes(job: Job, count: int = BATCHES_ON_DEVICE) -> int:
    """Bytes of `count` batches of the longest texts on one device."""
    numbers = 3 * job.batches.longest + 3 * job.outputs.num_predictions + 5
    if job.cache_bytes:
        matches = len(distill.matches(job.config.objective, job.setting))
        numbers += job.outputs.num_labels + matches * job.teacher.hidden_size
    return int(4 * count * numbers * job.config.data.batch_size / rules.num_batch_shards(job.mesh, job.rules))


def passing_bytes(job: Job, *, is_cpu: bool) -> dict[str, float]:
    """{"activations", "gradients"}: bytes on one device during a step.

    Args:
      is_cpu: for XLA's CPU compiler, which keeps the activations of all layers whatever student.remat says.
    """
    teacher = job.teacher if job.is_live else None
    of = encoding(job, "student", is_cpu=is_cpu)
    kept = memory.activations(job.student, teacher, of, "none" if is_cpu else job.config.student.remat)
    if (num := job.config.train.num_microbatches) > 1:
        kept += 2 * num * of.hidden(job.student)  # the word embeddings of the whole batch, and their gradient
    kept += _vocabulary_bytes(job)
    kept += traffic.weight_bytes(job.state.params, only_split=True) + memory.COSINE_BYTES * _cosines(job)
    gradients = memory.device_bytes(job.state.params)
    return {"activations": kept, "gradients": 2 * gradients}  # as computed, and as added up


def _tied_decoder(job: Job):
    """The word embedding where it is a masked LM's decoder too."""
    if job.setting.head != "masked_lm":
        return {}
    return job.state.params["student"]["encoder"]["embeddings"]["word"]


def _vocabulary_bytes(job: Job) -> float:
    """Logits of a masked LM on one device: a chunk of the vocabulary at a time, of student and teacher."""
    slots = job.outputs.num_predictions
    if not slots:
        return 0.0
    vocab, chunk = job.student.vocab_size, job.config.objective.vocab_chunk_size
    columns = vocab / vocabulary.num_chunks(vocab, chunk)
    rows = job.config.data.batch_size / rules.num_batch_shards(job.mesh, job.rules)
    return memory.LOGIT_BYTES * rows * slots * columns


def step_flops(job: Job) -> dict[str, float]:
    """Operations of a step on all devices, the mean over the padded lengths."""
    config, total = job.config, {"student": 0.0, "teacher": 0.0}
    teacher = job.teacher if job.is_live else None
    for length, share in zip(job.batches.buckets, job.batches.shares, strict=True):
        found = work.encoders(
            job.student,
            teacher,
            job.outputs,
            length,
            config.data.batch_size,
            remat=config.student.remat,
            num_microbatches=config.train.num_microbatches,
        )
        total = {side: total[side] + share * value for side, value in found.items()}
    objective = config.objective
    if objective.name == "codir":
        total["contrastive"] = work.contrastive(
            rows=config.data.batch_size,
            keys=_num_negatives(job),
            features=objective.projection_dim,
            widths=(job.student.hidden_size, job.teacher.hidden_size),
            groups=_groups(job),
            matches=len(distill.matches(objective, job.setting)),
        )
        total["contrastive"] *= job.mesh.shape[rules.MODEL]  # devices of the model axis all do the same
    weights = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(job.state.params))
    return {**total, "optimizer": float(work.OPTIMIZER_FLOPS * weights * job.mesh.size)}


def _teacher_pass_flops(job: Job) -> float:
    """Operations of the one pass of a teacher whose outputs are kept."""
    if not job.cache_bytes:
        return 0.0
    per_text = (cost.model_flops(job.teacher, length, job.outputs) for length in job.batches.buckets)
    mean = sum(share * flops for share, flops in zip(job.batches.shares, per_text, strict=True))
    return job.num_train * mean


def transfers(job: Job) -> list[Transfer]:
    """The collectives of a step with the longest texts."""
    config, objective = job.config, job.config.objective
    features = None
    if objective.name == "codir":
        options = objective.negatives
        batch_size, has_bank = config.data.batch_size, "bank" in options.source
        drawn = options.num_negatives * (1 if options.shared else batch_size)
        features = Features(
            batch_size=batch_size,
            num_bytes=2 * 4 * _groups(job) * objective.projection_dim,
            bank_rows=drawn + batch_size if has_bank else 0,
            has_in_batch="in_batch" in options.source,
            has_queue="queue" in options.source,
        )
    return traffic.transfers(
        params=job.state.params,
        decoder=_tied_decoder(job),
        teacher=job.frozen.get("teacher"),
        student_sizes=job.student,
        teacher_sizes=job.teacher if job.is_live else None,
        of=encoding(job, "student"),
        mesh_sizes=dict(job.mesh.shape),
        num_microbatches=config.train.num_microbatches,
        features=features,
    )


def _groups(job: Job) -> int:
    objective = job.config.objective
    return 1 if objective.layer_aggregation == "concat" else len(distill.matches(objective, job.setting))


def _num_negatives(job: Job) -> int:
    """Negatives of an anchor, false ones included."""
    options = job.config.objective.negatives
    sizes = {
        "in_batch": job.config.data.batch_size,
        "bank": min(options.num_negatives, job.num_train),
        "queue": options.queue_size,
        "teacher_cache": options.num_negatives + options.num_hard,
    }
    return sum(sizes[name] for name in options.source.split("+"))


def _cosines(job: Job) -> float:
    """Cosines on one device: its anchors with all keys, or all anchors with its part of the queue."""
    if job.config.objective.name != "codir":
        return 0.0
    options, batch_size = job.config.objective.negatives, job.config.data.batch_size
    shards = rules.num_batch_shards(job.mesh, job.rules)
    queue = options.queue_size if "queue" in options.source else 0
    own = batch_size / shards * (_num_negatives(job) - queue)
    return _groups(job) * (own + batch_size * queue / job.mesh.size)
