"""What a model costs: parameters, bytes, floating-point operations and latency.

Parameters, bytes and operations follow from shapes and are exact for what they count; latency is measured, and two
models are measured in turns, so that whatever else the machine does slows both.
"""

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from codir_jax.evaluation.turns import in_turns
from codir_jax.models.contract import family
from codir_jax.models.heads import head_spec
from codir_jax.processes import console

Params = Any
# (params, input_ids, attention_mask, token_type_ids) -> any pytree of arrays
ApplyFn = Callable[[Params, Any, Any, Any], Any]


def count_parameters(params: Params) -> int:
    """Number of scalars in a pytree of arrays or of `jax.ShapeDtypeStruct` (what `jax.eval_shape` returns)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


class Outputs(NamedTuple):
    """What a head, of `models.heads.HEADS`, computes for a text: its labels, or so many tokens of the vocabulary."""

    num_labels: int = 0
    num_predictions: int = 0
    head: str = "classification"


def model_flops(config: Any, seq_len: int, outputs: Outputs | None) -> float | None:
    """Operations of one forward pass of one example through the encoder and its head; a multiply-add counts 2.

    The family counts its encoder (`models.transformer.flops` says what counts), `models.heads.HEADS` the head. None
    for a family that does not count: not modelled.

    Args:
      config: a family's, with what its `flops` reads.
      seq_len: tokens, padding included: the padded part is computed too.
      outputs: of the head; None: of the encoder alone.
    """
    head = head_spec(outputs.head) if outputs else None
    counts = head.counts if head else ""
    count = getattr(outputs, counts) if counts else 1
    if seq_len < 1 or count < 1:
        raise ValueError(f"seq_len and {counts} must be at least 1, got {seq_len} and {outputs}")
    encoder = family(config.family).flops
    if encoder is None:
        return None
    return encoder(config, seq_len) + (head.flops(config, count) if head else 0.0)


def answer(module, head: str) -> ApplyFn:
    """What a served model with that head computes: its answer, or the last hidden states, which a later task reads."""
    field = head_spec(head).answer if head_spec(head).is_served else ""

    def apply(params, *inputs):
        output = module.apply({"params": params}, *inputs)
        return getattr(output, field) if field else output.hidden_states[-1]

    return apply


def latency(
    models: Mapping[str, tuple[ApplyFn, Params]],
    *,
    seq_len: int,
    batch_sizes: Sequence[int] = (1, 32),
    num_repeats: int = 50,
    num_warmup: int = 5,
) -> dict[str, dict[str, float]]:
    """Milliseconds of a forward pass: name -> {"batch_1_p50_ms", "batch_1_p95_ms", "batch_32_p50_ms", ...}.

    Each model is jitted with its weights as an argument and run on full-length inputs until the result is there. Every
    repeat times each model once, the first one taking turns: a slow moment of the machine hits all of them.

    Args:
      models: name -> (apply_fn, params), usually {"teacher": ..., "student": ...}.
      seq_len: tokens of every input; all of them real, so that nothing is saved on padding.
      batch_sizes: examples in a pass.
      num_repeats: timed passes of each model and batch size; the 95th percentile needs at least 20.
      num_warmup: untimed passes, at least 1: the first one compiles.
    """
    if num_repeats < 2 or num_warmup < 1:
        raise ValueError(
            f"latency needs num_repeats >= 2 and num_warmup >= 1 (compilation), got {num_repeats} and {num_warmup}"
        )
    names = list(models)
    compiled = {name: jax.jit(apply_fn) for name, (apply_fn, _) in models.items()}
    weights = {name: jax.device_put(params) for name, (_, params) in models.items()}
    results: dict[str, dict[str, float]] = {name: {} for name in names}
    num_passes = len(batch_sizes) * (num_warmup + num_repeats) * len(names)
    with console.progress_bar("measure", 0, num_passes, unit="pass", is_inner=True) as bar:
        for batch_size in batch_sizes:
            inputs = jax.device_put(full_length_inputs(batch_size, seq_len))

            def run(name: str, inputs=inputs) -> None:
                jax.block_until_ready(compiled[name](weights[name], *inputs))

            arms = {name: functools.partial(run, name) for name in names}
            took = in_turns(arms, num_repeats, num_warmup=num_warmup, tick=bar.update)
            for name, seconds in took.items():
                results[name][f"batch_{batch_size}_p50_ms"] = 1e3 * statistics.median(seconds)
                results[name][f"batch_{batch_size}_p95_ms"] = 1e3 * float(np.percentile(seconds, 95))
    return results


def full_length_inputs(batch_size: int, seq_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """input_ids, attention_mask, token_type_ids, int32 [batch_size, seq_len]; which tokens does not change the time."""
    shape = (batch_size, seq_len)
    # Token 3 exists in every vocabulary and is nobody's padding (BERT 0, RoBERTa 1), which RoBERTa's positions look at.
    return np.full(shape, 3, np.int32), np.ones(shape, np.int32), np.zeros(shape, np.int32)
