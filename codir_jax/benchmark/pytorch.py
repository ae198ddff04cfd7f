"""Against PyTorch, in one process and in turns: epochs of training, and passes of the student."""

import itertools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from codir_jax.benchmark import pytorch_step
from codir_jax.benchmark.pytorch_step import Corner
from codir_jax.benchmark.subject import Subject
from codir_jax.benchmark.turns import epochs, spread
from codir_jax.convert import pytorch_model
from codir_jax.evaluation import cost
from codir_jax.evaluation.turns import in_turns

BATCH_SIZES = (1, 32)
CORNERS = tuple(Corner(*flags) for flags in itertools.product((True, False), (True, False), (False, True)))


def training(subject: Subject, *, num_epochs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Epochs of every corner of PyTorch and of ours, live and cached, in turns; the first, which compiles, is left out.

    Returns:
      {"rates": {arm: sentences per second of each turn}, "ratios": {ours: {corner: {"median", "min", "max"}}},
      "sentences_per_second": the median of ours, cached}. "ratios" has beside the corners "best live" and "best
      cached": in each turn the faster of those.

    Raises:
      UserError: PyTorch is not installed, or the subject is of a method that is not written in PyTorch here.
    """
    corners = {corner: pytorch_step.Training(subject, corner) for corner in CORNERS}
    arms = {f"PyTorch, {corner.name}": run.epoch for corner, run in corners.items()}
    ours = {"codir, live": _epochs(subject, True, num_epochs), "codir, cached": _epochs(subject, False, num_epochs)}
    seconds = in_turns({**ours, **arms}, num_epochs, say)
    num_texts = subject.stage.feed.num_train
    rates = {name: [num_texts / s for s in values[1:]] for name, values in seconds.items()}
    rivals = {name: rates[name] for name in arms}
    for teacher in ("live", "cached"):
        of_teacher = [rates[name] for name in arms if f", {teacher}," in name]
        rivals[f"PyTorch, best {teacher}"] = [max(turn) for turn in zip(*of_teacher, strict=True)]
    ratios = {name: {rival: spread(rates[name], rivals[rival]) for rival in rivals} for name in ours}
    return {
        "rates": rates,
        "ratios": ratios,
        "num_turns": num_epochs - 1,
        "sentences_per_second": statistics.median(rates["codir, cached"]),
    }


def inference(subject: Subject, *, num_repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Passes of the student on full-length inputs, in turns with PyTorch's, which have one dtype, compiled or not.

    Returns:
      {"length", "batch_1": {arm: {"median_ms", "ratio": {"median", "min", "max"}}}, "batch_32": the same,
      "sentences_per_second"}; a ratio is PyTorch's time over ours, of groups of passes.

    Raises:
      UserError: PyTorch is not installed.
    """
    torch = pytorch_step.import_torch()
    student, length = subject.stage.student, subject.config.data.max_length
    ours = jax.jit(cost.answer(student.module, subject.stage.task.head.name))
    plain = pytorch_model.classifier(student.config, subject.stage.task.head.num_labels).eval()
    models = {"float32": plain, "float32, compiled": torch.compile(plain)}
    rounded = pytorch_model.classifier(student.config, subject.stage.task.head.num_labels).eval().to(torch.bfloat16)
    models |= {"bfloat16": rounded, "bfloat16, compiled": torch.compile(rounded)}
    result: dict[str, Any] = {"length": length}
    for size in BATCH_SIZES:
        host = cost.full_length_inputs(size, length)
        given = [torch.from_numpy(array.astype(np.int64)) for array in host]
        inputs = jax.device_put(host)
        arms = {"codir": lambda inputs=inputs: jax.block_until_ready(ours(subject.student_params, *inputs))}
        for name, model in models.items():
            arms[f"PyTorch, {name}"] = lambda model=model, given=given: _pass(torch, model, given)
        per_turn = 1 + 100 // size
        grouped = {name: lambda arm=arm, n=per_turn: [arm() for _ in range(n)] for name, arm in arms.items()}
        say(f"batches of {size} ...")
        seconds = {name: values[1:] for name, values in in_turns(grouped, num_repeats + 1).items()}
        result[f"batch_{size}"] = {
            name: {
                "median_ms": 1e3 * statistics.median(values) / per_turn,
                "ratio": spread(values, seconds["codir"]),
            }
            for name, values in seconds.items()
        }
    result["sentences_per_second"] = BATCH_SIZES[-1] * 1e3 / result[f"batch_{BATCH_SIZES[-1]}"]["codir"]["median_ms"]
    return result


def _epochs(subject: Subject, live: bool, num_epochs: int) -> Callable[[], None]:
    """A function that trains the next epoch."""
    columns = {} if live else subject.teacher_rows()
    abstract = subject.stage.abstract_state(live=live)
    step = subject.stage.initial_state.step(abstract)
    return epochs(subject.stage, step, *subject.start(abstract, columns), columns, num_epochs)


def _pass(torch, model, inputs):
    with torch.inference_mode():
        ids, mask, types = inputs
        return model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
