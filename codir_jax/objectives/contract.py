"""The one seam of the house: a method is a pair of pure functions, in the manner of an optax transformation."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.data.batch import DatasetInfo

Metrics = dict[str, tuple[jax.Array, jax.Array]]


class Objective(NamedTuple):
    """A training method.

    init(rng, batch) -> (params, frozen, objective_state):
      `params` is trained, with the student under "student"; `frozen` is never updated and never checkpointed (teacher,
      tables); `objective_state` is updated without gradient and checkpointed (banks, queues, normalisers).
    loss(params, frozen, objective_state, batch, rng) -> (loss, (objective_state, metrics)):
      `loss` float32 scalar; `metrics` name -> (sum, count), so that they add up over steps without bias. `rng` None
      means deterministic.
    tables(teacher_pooled, split) -> entries of `frozen` made from the teacher's pooled states of the whole train set,
      [num_train, matches, width] on the device; `init` holds stand-ins of their shapes. `split` puts a numpy array on
      the devices, its first axis split as a batch is. None where the method needs the batch's own states only.
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any, Any]]
    loss: Callable[[Any, Any, Any, Any, jax.Array | None], tuple[jax.Array, tuple[Any, Metrics]]]
    tables: Callable[[jax.Array, Callable], dict[str, jax.Array]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method is made for: models, data and the length of the run.

    Attributes:
      head: of both models, of `models.heads.HEADS`: "classification" (or a regression), or "masked_lm" at pre-training.
      student: Linen model with that head. teacher: likewise, or None where the method has none.
      num_steps: length of the run, for schedules of the loss weights.
      num_microbatches: parts in which the models run over a batch.

    And of a classification, as no method has a table of a corpus:
      info: sizes and classes of the data.
      labels: float32 or int32 [num_train], the unshuffled train set (labelled rows first, then unlabelled).
      is_labelled: bool [num_train]. text_ids: int32 [num_train], equal for equal texts.
    """

    student: Any
    teacher: Any | None
    num_steps: int
    num_microbatches: int = 1
    head: str = "classification"
    info: DatasetInfo | None = None
    labels: np.ndarray | None = None
    is_labelled: np.ndarray | None = None
    text_ids: np.ndarray | None = None


def apply_model(model, params, batch, rng: jax.Array | None = None):
    """The model's output on a batch; dropout is on exactly where an rng is given.

    Word embeddings that were looked up before are taken from `batch["words"]`. Where the batch has masked positions the
    model is a masked LM and its output a `MaskedLMOutput` of those, without logits.
    """
    inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    more = {"words": batch["words"]} if "words" in batch else {}
    if "masked_positions" in batch:
        more |= {"positions": batch["masked_positions"], "method": "states"}
    rngs = {} if rng is None else {"dropout": rng}
    return model.apply({"params": params}, *inputs, **more, deterministic=rng is None, rngs=rngs)


def init_model(model, rng: jax.Array, batch):
    """Randomly initialised parameters of the model (with their logical axis names)."""
    return model.init(rng, batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])["params"]


def masked_sum(values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(sum of the masked values, count), both float32 scalars: the form in which metrics add up."""
    mask = mask.astype(jnp.float32)
    return jnp.sum(jnp.where(mask > 0, values.astype(jnp.float32), 0.0) * mask), jnp.sum(mask)


def mean(sum_and_count: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean of a (sum, count) pair; 0 where nothing was counted."""
    total, count = sum_and_count
    return total / jnp.maximum(count, 1.0)
