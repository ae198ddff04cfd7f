"""Bytes that devices send each other in a step, by what they are for."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives.cost import Features
from codir_jax.plan.memory import Encoding
from codir_jax.sharding import collectives, rules


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
        """Bytes that a device sends in a step, see `collectives.sent_bytes`."""
        return self.times * collectives.sent_bytes(self.kind, self.num_bytes, self.group)


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
    kernel_gradients: str,
    teacher: Any | None,
    student_sizes: TransformerConfig,
    teacher_sizes: TransformerConfig | None,
    of: Encoding,
    mesh_sizes: dict[str, int],
    num_microbatches: int,
    features: Features | None,
    gather: str = "all-gather",
    scatter: str = "all-reduce",
    gathered: str = "float32",
) -> list[Transfer]:
    """The collectives of a step.

    Args:
      params: the trained parameters. decoder: those of them that a masked LM uses twice, else {}.
      kernel_gradients: dtype of the gradients of the student's products.
      teacher: parameters of a live teacher; all are shapes with shardings.
      teacher_sizes: of a live teacher, else None.
      of: a microbatch on a device.
      mesh_sizes: mesh axis -> devices.
      features: of a contrastive method, else None.
      gather, scatter: kinds by which the compiler gathers them and brings their gradients back.
      gathered: dtype in which fsdp gathers kernels.
    """
    fsdp, model = mesh_sizes[rules.FSDP], mesh_sizes[rules.MODEL]
    shards, devices = mesh_sizes[rules.DATA] * fsdp, math.prod(mesh_sizes.values())
    again = num_microbatches > 1  # the student encodes every microbatch twice
    found = []

    def add(what: str, kind: str, num_bytes: float, times: int, group: int, dtype: str = "float32") -> None:
        if num_bytes and group > 1:
            found.append(Transfer(what, kind, num_bytes, times, group, dtype))

    def hidden(sizes):
        return of.hidden(sizes) * of.itemsize

    kernels, words, others, _ = _by_use(params)
    for what, weights, dtype, times in (
        ("gradients of kernels", kernels, kernel_gradients, num_microbatches),
        # Looked up once, for all microbatches; as the decoder it has a gradient that is summed for itself.
        ("gradients of the words", words, "float32", 1),
        ("gradient of the decoder", decoder, "float32", 1),
        ("gradients of all else", others, "float32", num_microbatches),
    ):
        size = jnp.dtype(dtype).itemsize / 4
        split = size * weight_bytes(weights, only_split=True) if fsdp > 1 else 0.0
        add(what, "all-reduce", size * weight_bytes(weights) - split, 1, shards, dtype)
        # Summed where the weight lies, after each microbatch: whole gradients are not kept. The parts are summed over
        # `data` at the end, as are whole gradients: XLA takes an all-reduce of a sum out of its loop.
        add(f"{what} (fsdp)", "reduce-scatter", split, times, fsdp, dtype)
        if weights is not decoder:  # whose parts join those of the words before that
            add(f"{what} (data)", "all-reduce", split / fsdp, 1, shards // fsdp, dtype)
    if student_sizes.relative_span is not None:
        # Each layer's projected distances: the table's gradient is made of these sums, on every device.
        num_vectors = student_sizes.num_layers * 2 * (2 * of.length - 1)
        num_bytes = 4 * num_vectors * student_sizes.hidden_size
        add("gradients of the distances", "all-reduce", num_bytes, num_microbatches, shards)
    # Gathered before the forward pass, microbatches or not.
    for side, weights in (("student", params), ("teacher", teacher or {})):
        kernels, *rest = _by_use(weights)
        size = jnp.dtype(gathered).itemsize / 4 * weight_bytes(kernels, only_split=True)
        add(f"{side} kernels (fsdp)", "all-gather", size, 1, fsdp, gathered)
        add(f"{side} weights (fsdp)", "all-gather", weight_bytes(rest, only_split=True), 1, fsdp)
    # A layer sums its two outputs over `model`; backward the inputs of mlp_in and of queries, keys and values.
    student_sums = student_sizes.num_layers * (2 + 4 + 2 * again)
    student_sums += student_sizes.vocab_size % model == 0  # words are looked up once, for all microbatches
    add(
        "student layers (model)",
        "all-reduce",
        student_sums * hidden(student_sizes),
        num_microbatches,
        model,
    )
    if teacher_sizes:
        teacher_sums = 2 * teacher_sizes.num_layers + (teacher_sizes.vocab_size % model == 0)
        add(
            "teacher layers (model)",
            "all-reduce",
            teacher_sums * hidden(teacher_sizes),
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


def kept_bytes(params: Any, decoder: Any, gathered: str) -> float:
    """Bytes on one device of what fsdp gathers and the backward pass needs: all but a table that is looked up only."""
    kernels, _, *others = _by_use(params)
    size = jnp.dtype(gathered).itemsize / 4
    return size * weight_bytes(kernels, only_split=True) + weight_bytes((others, decoder), only_split=True)


def _by_use(weights: Any) -> tuple[list, list, list, list]:
    """(kernels of products in the model's dtype, its words, all else, its distances); a classifier's are float32."""
    parts: tuple[list, list, list, list] = [], [], [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        names = {getattr(key, "key", None) for key in path}
        is_kernel = "kernel" in names and names & {"encoder", "transform"}
        parts[0 if is_kernel else 1 if "word" in names else 3 if "distances" in names else 2].append(leaf)
    return parts
