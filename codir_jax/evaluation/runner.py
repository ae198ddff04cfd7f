"""Runs a model over a split: one row of outputs per example, in the order of the split, padding masked out."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from codir_jax.evaluation import metrics as metrics_lib
from codir_jax.models.apply import apply_model
from codir_jax.processes import console, stop
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.placement import fetch, put_batch


def make_forward(model, answer: str = "logits") -> Callable:
    """A jitted function (params, batch) -> the field `answer` of the model's output, deterministic.

    Logits are float32 [batch, classes], vectors of a sentence encoder float32 [batch, hidden].
    """
    return jax.jit(lambda params, batch: getattr(apply_model(model, params, batch), answer))


def collect(forward: Callable, params, batches: Iterable[dict], num_examples: int, sharding) -> object:
    """What `forward` returns for every example, as numpy arrays [num_examples, ...].

    Args:
      forward: (params, device batch) -> array or tree of arrays with the batch first.
      params: first argument of `forward`.
      batches: host batches of `data.pipeline.eval_batches`; each example once.
      num_examples: of the split; rows with that id are padding.
      sharding: of the batch.
    """
    return gathered(each_batch(forward, params, batches, num_examples, sharding), num_examples)


def gathered(parts: Iterable[tuple], num_examples: int) -> object:
    """The answers of all examples in their order, of (ids int [k], outputs [k, ...]) of one batch after the other.

    Raises:
      UserError: there is no batch.
    """
    result = None
    with console.progress_bar("evaluate", 0, num_examples, unit="text", is_inner=True) as bar:
        for ids, outputs in parts:
            if result is None:
                result = jax.tree.map(lambda x: np.zeros((num_examples, *x.shape[1:]), x.dtype), outputs)
            for whole, part in zip(jax.tree.leaves(result), jax.tree.leaves(outputs), strict=True):
                whole[ids] = part
            bar.update(len(ids))
    if result is None:
        raise UserError("the split is empty; nothing to evaluate")
    return result


def each_batch(forward: Callable, params, batches: Iterable[dict], num_examples: int, sharding) -> Iterator[tuple]:
    """Yields (example ids int32 [k], outputs [k, ...]) of every batch on the host, padding left out.

    The devices work on the next two batches while the host reads one. Arguments as of `collect`.

    Raises:
      UserError: an output is NaN or infinite, so that no answer and no score is made of it.
    """
    pending = []

    def fetched(ids, outputs):
        ids = fetch(ids)
        real = ids < num_examples
        outputs = jax.tree.map(lambda x: fetch(x)[real], outputs)
        for values in jax.tree.leaves(outputs):
            check_finite(values, ids[real])
        return ids[real], outputs

    for batch in batches:
        stop.poll()
        on_device = put_batch(batch, sharding)
        pending.append((on_device["example_ids"], forward(params, on_device)))
        if len(pending) > 2:
            yield fetched(*pending.pop(0))
    yield from (fetched(*item) for item in pending)


def check_finite(values: np.ndarray, ids: np.ndarray) -> None:
    """Refuses answers [k, ...] of the texts `ids`, int [k], of which one is NaN or infinite.

    Raises:
      UserError: the first such text.
    """
    if not np.isfinite(values).all():
        wrong = ids[~np.isfinite(values).reshape(len(values), -1).all(axis=1)]
        raise UserError(
            f"the model's answer for text {wrong.min() + 1} is NaN or infinite ({len(wrong)} of {len(ids)} texts), so "
            "none is given: its weights are too large to compute with; fetch the model again, or train it again with "
            "a lower learning rate"
        )


def score(logits: np.ndarray, labels: np.ndarray, metrics: tuple[str, ...], is_regression: bool) -> dict[str, float]:
    """Task metrics from logits float32 [n, classes] and labels [n], or [n, classes] of any number a text."""
    return metrics_lib.compute(metrics, labels, answers_of(logits, is_regression, np.ndim(labels) == 2))


def answers_of(logits: np.ndarray, is_regression: bool, is_multi_label: bool) -> np.ndarray:
    """What metrics take of logits [n, classes]: values or classes [n], or the logits themselves of several a text."""
    if is_multi_label:
        return logits
    return logits[:, 0].astype(np.float64) if is_regression else logits.argmax(-1)


def distance_to_teacher(
    logits: np.ndarray, teacher_logits: np.ndarray, is_regression: bool, is_multi_label: bool = False
) -> dict[str, float]:
    """How close a student is to its teacher on a split; varies far less between seeds than the task's score.

    Returns:
      {"teacher_kl": mean KL(teacher || student) in nats, "teacher_agreement": share of equal predictions}, or
      {"teacher_mse"} for a regression. Of several classes a text the KL is a class's in the mean, and predictions are
      equal where all classes are.
    """
    if is_multi_label:
        student, teacher = ((-np.logaddexp(0, -x), -np.logaddexp(0, x)) for x in (logits, teacher_logits))
        kl = sum(np.exp(ours) * (ours - theirs) for ours, theirs in zip(teacher, student, strict=True))
        agrees = np.all((logits > 0) == (teacher_logits > 0), axis=-1)
        return {"teacher_kl": float(np.mean(kl)), "teacher_agreement": float(np.mean(agrees))}
    if is_regression:
        return {"teacher_mse": float(np.mean((logits - teacher_logits) ** 2))}
    student, teacher = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (logits, teacher_logits))
    kl = np.mean(np.sum(np.exp(teacher) * (teacher - student), axis=-1))
    return {
        "teacher_kl": float(kl),
        "teacher_agreement": float(np.mean(logits.argmax(-1) == teacher_logits.argmax(-1))),
    }
