"""An export in all of its formats, side by side: bytes, time of a batch in each runtime and, with data, scores."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from codir_jax.convert import export, pretrained
from codir_jax.convert.folder import weight_bytes
from codir_jax.convert.formats import contract
from codir_jax.data import length_buckets
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.evaluation import cost
from codir_jax.evaluation.turns import in_turns
from codir_jax.jobs.document import Block, Heading, Paragraph, Table
from codir_jax.objectives.contract import objective_module
from codir_jax.predict import language_model
from codir_jax.processes import console
from codir_jax.tasks.contract import Task, task_module

LENGTH = 32
_ABOUT = (
    "The export in each format, run by its own runtime: median times from arrays to answers for texts x tokens, "
    "tokenizer left out, by as many threads as the runtime takes. `huggingface` is `codir_jax.load`."
)
BATCH_SIZES = (1, 32)
_REPEATS, _WARM_UP = 20, 3


def require(formats: Sequence[str], config: ConfigDict) -> None:
    """Refuses formats that are not known, need what is not installed, or have no room for the head.

    Args:
      config: of the stage that is exported.
    """
    contract.require(formats, objective_module(task_module(config.task.name).PLAIN_OBJECTIVE).HEADS[0])


def of_data(folder: str, formats: Sequence[str], config: ConfigDict) -> dict[str, dict[str, Any]]:
    """`measure` of an export on the data of a stage: its scores, and times of a text of median length."""
    task = task_module(config.task.name).make(config, tokenizer_lib.load_tokenizer(folder))
    task.open()
    length = length_buckets.bucket_length(task.typical_length, length_buckets.ladder(task.served_length or LENGTH))
    return measure(folder, formats, task=task, length=length)


def measure(
    folder: str, formats: Sequence[str], *, task: Task | None = None, length: int = LENGTH
) -> dict[str, dict[str, Any]]:
    """name -> {"bytes", "batch_1_ms", "batch_32_ms", "length"}; of a classifier with data also the scores on each split
    by which it can be judged, as "dev" and "test".

    The first row is the Hugging Face folder as `codir_jax.load` runs it, in JAX. Each runtime takes arrays of the host
    and gives one, and all are measured in turns.

    Args:
      folder: of an export. formats: that it has.
      task: whose splits it is judged by. length: tokens of a text, all of them real.
    """
    head = pretrained.stored_head(folder)
    source = pretrained.load_pretrained(folder, head=head)
    source = dataclasses.replace(source, params=jax.device_put(source.params))  # once, as `codir_jax.load` does
    length = min(length, source.config.max_length)
    runs = {contract.HUGGINGFACE: _InJax(source, head)}
    rows = {contract.HUGGINGFACE: {"bytes": weight_bytes(folder)}}
    for name in formats:
        if name != contract.HUGGINGFACE:
            runs[name] = contract.load(Path(folder), name)
            rows[name] = {"bytes": contract.num_bytes(Path(folder), name)}
    for size in BATCH_SIZES:
        for name, value in _milliseconds(runs, size, length).items():
            rows[name] |= {f"batch_{size}_ms": value, "length": length}
    if task is not None and hasattr(task, "scores_of"):
        judged = [split for split in task.splits if split == "dev" or task.is_judged_once(split)]
        for name, run in runs.items():
            rows[name] |= {split: task.scores_of(split, run) for split in judged}
    return rows


class _InJax:
    """`formats.contract.Answers` of a folder by JAX."""

    def __init__(self, source: pretrained.Pretrained, head: str):
        self._source, self._head = source, head

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return export.answers_of(self._source, self._head, inputs)

    @functools.cached_property
    def step(self):
        """Of a language model."""
        return language_model.LanguageModel(self._source, None, 1).step


def _milliseconds(runs: Mapping[str, contract.Answers], batch_size: int, length: int) -> dict[str, float]:
    """The median time of a batch in each runtime."""
    inputs = cost.full_length_inputs(batch_size, length)
    num_passes = (_WARM_UP + _REPEATS) * len(runs)
    arms = {name: lambda run=run: np.asarray(run(*inputs)) for name, run in runs.items()}
    with console.progress_bar("measure formats", 0, num_passes, unit="pass", is_inner=True) as bar:
        took = in_turns(arms, _REPEATS, num_warmup=_WARM_UP, tick=bar.update)
    return {name: 1e3 * statistics.median(seconds) for name, seconds in took.items()}


def screen_table(rows: Mapping[str, Mapping[str, Any]], metric: str = "") -> str:
    """The rows for a terminal of 80 columns; `metric`: the score that is told where there are scores."""
    header, cells = _cells(rows, metric)
    widths = [max(len(line[i]) for line in (header, *cells)) for i in range(len(header))]
    return "\n".join(
        "  ".join((line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))))
        for line in (header, *cells)
    )


def section(results: Mapping[str, Any]) -> list[Block]:
    """Of a report; nothing without formats."""
    if not results.get("formats"):
        return []
    return [Heading("Served"), Table(*_cells(results["formats"], results["primary_metric"])), Paragraph(_ABOUT)]


def on_screen(results: Mapping[str, Any]) -> list[str]:
    """The same for a terminal."""
    return [screen_table(results["formats"], results["primary_metric"])] if results.get("formats") else []


def _cells(rows: Mapping[str, Mapping[str, Any]], metric: str) -> tuple[list[str], list[list[str]]]:
    first = next(iter(rows.values()))
    judged, length = [name for name, value in first.items() if isinstance(value, Mapping)], first["length"]
    header = ["format", *(f"{split} {metric.replace('_', ' ')}" for split in judged), "MiB"]
    header += [f"ms, {size} x {length}" for size in BATCH_SIZES]
    cells = []
    for name, row in rows.items():
        scores = [f"{row[split][metric]:.4f}" for split in judged]
        times = [f"{row[f'batch_{size}_ms']:.1f}" for size in BATCH_SIZES]
        cells.append([name, *scores, f"{row['bytes'] / 2**20:.1f}", *times])
    return header, cells
