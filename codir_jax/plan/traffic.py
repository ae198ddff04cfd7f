"""Bytes that devices send each other in a step, by what they are for."""

import dataclasses
import math
from typing import Any

import jax

from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives.contract import Features
from codir_jax.plan.memory import Encoding
from codir_jax.sharding import rules


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One kind of collective.

    Attributes:
      what: it is for. kind: of XLA's collectives.
      num_bytes: of its larger side on one device, each time: what an all-gather returns, what an all-reduce sums.
      times: in a step; above 1 for what happens once a microbatch.
      group: devices that take part.
      dtype: of what is sent.
    """

    what: str
    kind: str
    num_bytes: float
    times: int
    group: int
    dtype: str = "float32"

    @property
    def sent_bytes(self) -> float:
        """Bytes that a device sends in a step: a ring passes on all but its own part, an all-reduce twice."""
        passes = 2 if self.kind == "all-reduce" else 1
        return passes * self.times * self.num_bytes * (self.group - 1) / self.group


def weight_bytes(weights: Any, *, only_split: bool = False) -> float:
    """Bytes on one device of weights that are whole over the fsdp axis; `only_split`: of those that it splits."""
    total = 0.0
    for leaf in jax.tree.leaves(weights):
        axes = [axis for part in leaf.sharding.spec if part for axis in ((part,) if isinstance(part, str) else part)]
        parts = math.prod(leaf.sharding.mesh.shape[axis] for axis in axes if axis != rules.FSDP)
        if rules.FSDP in axes or not only_split:
            total += math.prod(leaf.shape) * leaf.dtype.itemsize / parts
    return total


def transfers(
    *,
    params: Any,
    decoder: Any,
    teacher: Any | None,
    student_sizes: TransformerConfig,
    teacher_sizes: TransformerConfig | None,
    of: Encoding,
    mesh_sizes: dict[str, int],
    num_microbatches: int,
    features: Features | None,
    gather: str = "all-gather",
    scatter: str = "all-reduce",
) -> list[Transfer]:
    """The collectives of a step.

    Args:
      params: the trained parameters. decoder: those of them that a masked LM uses twice, else {}.
      teacher: parameters of a live teacher; all are shapes with shardings.
      teacher_sizes: of a live teacher, else None.
      of: a microbatch on a device.
      mesh_sizes: mesh axis -> devices.
      features: of a contrastive method, else None.
      gather, scatter: kinds by which the compiler gathers them and brings their gradients back.
    """
    fsdp, model = mesh_sizes[rules.FSDP], mesh_sizes[rules.MODEL]
    shards, devices = mesh_sizes[rules.DATA] * fsdp, math.prod(mesh_sizes.values())
    again = num_microbatches > 1  # the student encodes every microbatch twice
    found = []

    def add(what: str, kind: str, num_bytes: float, times: int, group: int) -> None:
        if num_bytes and group > 1:
            found.append(Transfer(what, kind, num_bytes, times, group))

    def hidden(sizes):
        return of.hidden(sizes) * of.itemsize

    add("gradients", "all-reduce", weight_bytes(params), 1, shards)
    # The word embedding's gradient as the decoder is summed for itself, before it joins the one as look-up.
    add("gradient of the decoder", "all-reduce", weight_bytes(decoder), 1, shards)
    # Gathered before the forward pass and kept for the backward pass, microbatches or not.
    add("student weights (fsdp)", "all-gather", weight_bytes(params, only_split=True), 1, fsdp)
    add("teacher weights (fsdp)", "all-gather", weight_bytes(teacher or {}, only_split=True), 1, fsdp)
    # A layer sums its two outputs over `model`; backward the inputs of mlp_in and of queries, keys and values.
    student_sums = student_sizes.num_layers * (2 + 4 + 2 * again)
    student_sums += student_sizes.vocab_size % model == 0  # words are looked up once, for all microbatches
    add(
        "student layers (model)",
        "all-reduce",
        student_sums * of.hidden(student_sizes) * of.itemsize,
        num_microbatches,
        model,
    )
    if teacher_sizes:
        teacher_sums = 2 * teacher_sizes.num_layers + (teacher_sizes.vocab_size % model == 0)
        add(
            "teacher layers (model)",
            "all-reduce",
            teacher_sums * of.hidden(teacher_sizes) * of.itemsize,
            num_microbatches,
            model,
        )
    if features is not None:
        size = features.batch_size * features.num_bytes
        add("features", gather, size, 1, shards)
        add("gradients of the features", scatter, features.has_in_batch * size, 1, shards)
        add("bank rows", "all-reduce", features.bank_rows * features.num_bytes, 1, devices)
        add("rows of tables", "all-reduce", features.table_bytes, 1, devices)
        add("gradients from the queue", "all-reduce", features.has_queue * size, 1, devices)
    return found
