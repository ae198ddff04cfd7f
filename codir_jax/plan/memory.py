"""Bytes on one device: what is held from step to step, exactly, and what a step needs beside it, by a model of XLA."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from codir_jax.models.transformer import TransformerConfig

# Arrays that a layer keeps for its backward pass, found from the memory of programs that XLA compiled for CPU at many
# sizes: [tokens, hidden] (queries, keys, values and mixed values are 4 of them), [tokens, inner] and [heads, tokens,
# tokens]; a dropout keeps a byte an element. Autodiff asks for 40 % more: XLA computes some of it again in passing.
HIDDEN_KEPT, HIDDEN_SPLIT, INNER_KEPT, ATTENTION_KEPT = 11, 4, 3, 2
# In use beside them at the peak, where the backward pass begins: of the embeddings, the last layer and the loss.
HIDDEN_PASSING, ATTENTION_PASSING = 8, 0.6
# Of a live teacher's layer while it runs: its input, its sum and its inner activation.
TEACHER_HIDDEN, TEACHER_INNER = 2, 1
# Bytes of a cosine of an anchor and a negative: both anchors, value and exponential in float32, a mask.
COSINE_BYTES = 17
# Of a masked LM's logit of the chunk at hand: of student and teacher, their exponentials, the gradient.
LOGIT_BYTES = 20


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

    rows: int
    length: int
    model_parts: int
    itemsize: int

    def hidden(self, sizes: TransformerConfig) -> float:
        """Bytes of an array [rows, length, hidden]."""
        return self.rows * self.length * sizes.hidden_size * self.itemsize

    def inner(self, sizes: TransformerConfig) -> float:
        """Bytes of this device's part of an array [rows, length, inner]."""
        return self.hidden(sizes) * sizes.intermediate_size / sizes.hidden_size / self.model_parts

    def attention(self, sizes: TransformerConfig) -> float:
        """Bytes of this device's part of an array [rows, heads, length, length]."""
        return self.rows * sizes.num_heads * self.length**2 * self.itemsize / self.model_parts


def kept_of_a_layer(student: TransformerConfig, of: Encoding) -> float:
    """Bytes that one layer keeps for its backward pass."""
    hidden, inner, attention = of.hidden(student), of.inner(student), of.attention(student)
    whole = HIDDEN_KEPT - HIDDEN_SPLIT + HIDDEN_SPLIT / of.model_parts
    masks = 2 * hidden * (student.hidden_dropout > 0) + attention * (student.attention_dropout > 0)
    return whole * hidden + INNER_KEPT * inner + ATTENTION_KEPT * attention + masks / of.itemsize


def activations(student: TransformerConfig, teacher: TransformerConfig | None, of: Encoding, remat: str) -> float:
    """Bytes of activations at the peak of a step on one device; `teacher` is None where it does not run.

    With "block" each layer keeps its input, and one layer at a time all the rest; "dots" keeps the products with
    weights too: queries, keys, values, two outputs, the inner product.
    """
    hidden, layer = of.hidden(student), kept_of_a_layer(student, of)
    kept = {
        "none": student.num_layers * layer,
        "block": student.num_layers * hidden + layer,
        "dots": student.num_layers * (hidden * (3 + 3 / of.model_parts) + of.inner(student)) + layer,
    }[remat]
    passing = HIDDEN_PASSING * hidden + ATTENTION_PASSING * of.attention(student)
    taught = TEACHER_HIDDEN * of.hidden(teacher) + TEACHER_INNER * of.inner(teacher) if teacher else 0.0
    return kept + passing + taught
