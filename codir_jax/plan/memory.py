"""Bytes on one device: what is held from step to step, exactly, and what a step needs beside it, by a model of XLA."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from codir_jax.models.transformer import TransformerConfig
from codir_jax.plan.compilers import Arrays, Compiler

# Of a masked LM's logit of the chunk at hand: of student and teacher, their exponentials, the gradient.
LOGIT_BYTES = 20
# Of a score: what is in use of the products of queries and of keys with distances, float32, of which there are four.
DISTANCE_BYTES = 12


def device_bytes(tree: Any) -> int:
    """Bytes on one device of a tree of jax.ShapeDtypeStruct (or arrays) with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def held(state: Any, frozen: Mapping[str, Any]) -> dict[str, int]:
    """Kind -> bytes on one device of what stays from step to step.

    Args:
      state, frozen: of `InitialState.abstract`, with shardings.
    """
    of_objective = dict(state.objective_state)
    bank = {name: of_objective.pop(name) for name in list(of_objective) if name.startswith(("bank", "queue"))}
    tables = {name: value for name, value in frozen.items() if name != "teacher"}
    kinds = {
        "parameters": state.params,
        "optimizer": state.opt_state,
        "teacher": frozen.get("teacher", {}),
        "bank and queue": bank,
        "tables": (tables, of_objective, state.step, state.rng),
    }
    return {name: device_bytes(tree) for name, tree in kinds.items()}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What a device encodes at a time.

    Attributes:
      rows: texts on the device. length: tokens of each.
      model_parts: devices that share the features of a layer.
      itemsize: bytes of an activation.
    """

    rows: float
    length: int
    model_parts: int
    itemsize: int

    def hidden(self, sizes: TransformerConfig) -> float:
        """Elements of an array [rows, length, hidden]."""
        return self.rows * self.length * sizes.hidden_size

    def inner(self, sizes: TransformerConfig) -> float:
        """Elements of this device's part of an array [rows, length, inner]."""
        return self.rows * self.length * sizes.intermediate_size / self.model_parts

    def attention(self, sizes: TransformerConfig) -> float:
        """Elements of this device's part of an array [rows, heads, length, length]."""
        return self.rows * sizes.num_heads * self.length**2 / self.model_parts

    def distances(self, sizes: TransformerConfig) -> float:
        """Bytes that a layer's distances (`models.disentangled`) take while they are added to its scores."""
        return 0.0 if sizes.relative_span is None else DISTANCE_BYTES * self.attention(sizes)

    def num_bytes(self, arrays: Arrays, sizes: TransformerConfig, split: float = 0.0) -> float:
        """Bytes of a layer's arrays; `split`: share of those [tokens, hidden] that the model axis splits too."""
        whole = 1 - split + split / self.model_parts
        each = whole * self.hidden(sizes), self.inner(sizes), self.attention(sizes)
        return sum(
            (times * self.itemsize + beside) * elements
            for (times, beside), elements in zip((arrays.hidden, arrays.inner, arrays.attention), each, strict=True)
        )


def activations(
    student: TransformerConfig,
    teacher: TransformerConfig | None,
    of: Encoding,
    remat: str,
    compiler: Compiler,
    of_loss: float = 0.0,
) -> float:
    """Bytes of activations at the peak of a step on one device; `teacher` is None where it does not run.

    `of_loss`: bytes that the loss has in use, before the backward pass of the last layer begins.

    With "block" each layer keeps its input, and one layer at a time all the rest; "dots" keeps the products with
    weights too: queries, keys, values, two outputs, the inner product.
    """
    hidden, layers = of.hidden(student) * of.itemsize, student.num_layers
    layer = of.num_bytes(compiler.kept_by(student), student, compiler.split)
    dots = hidden * (3 + 3 / of.model_parts) + of.inner(student) * of.itemsize
    kept_of = {"none": layer, "block": hidden, "dots": min(dots, layer)}["none" if compiler.keeps_all else remat]
    kept = (layers - 1) * kept_of + layer
    taught = of.num_bytes(compiler.teacher, teacher) if teacher else 0.0
    passing = compiler.passing if compiler.keeps_all or remat == "none" else compiler.again
    begins = kept + max(of.num_bytes(passing, student) + of.distances(student) + taught, of_loss)
    if compiler.late is None or remat != "none":
        return begins
    ends = (layers - 1) * of.num_bytes(compiler.late, student) + layer + of.num_bytes(compiler.late_passing, student)
    return max(begins, ends)
