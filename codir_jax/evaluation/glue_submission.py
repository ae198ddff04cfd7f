"""Leaderboard files of GLUE: `index<TAB>prediction`, one file a test split, in the names and order it asks for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from codir_jax.data.splits import Dataset, Examples
from codir_jax.processes import claims, whole
from codir_jax.processes.user_error import UserError

# task -> [(split, file)], as in the sample submission of gluebenchmark.com
FILES = {
    "cola": [("test", "CoLA.tsv")],
    "sst2": [("test", "SST-2.tsv")],
    "mrpc": [("test", "MRPC.tsv")],
    "stsb": [("test", "STS-B.tsv")],
    "qqp": [("test", "QQP.tsv")],
    "mnli": [("test", "MNLI-m.tsv"), ("test_mismatched", "MNLI-mm.tsv")],
    "qnli": [("test", "QNLI.tsv")],
    "rte": [("test", "RTE.tsv")],
    "wnli": [("test", "WNLI.tsv")],
    "ax": [("test", "AX.tsv")],
}
NAMED = ("mnli", "qnli", "rte", "ax")  # these want class names, the others numbers


def write(folder: str, task: str, data: Dataset, predict: Callable[[Examples], np.ndarray]) -> list[Path]:
    """Writes the files of a task; returns their paths.

    Args:
      folder: made if it is not there.
      task: GLUE name.
      data: with the task's test splits.
      predict: from a split to logits float32 [n, classes].

    Raises:
      UserError: not a GLUE task, or no test split.
    """
    if task not in FILES:
        raise UserError(f"--glue_submission needs a GLUE task, got data {task!r}; known: {', '.join(FILES)}")
    missing = [split for split, _ in FILES[task] if split not in data.splits]
    if missing:
        raise UserError(f"{task} has no split {', '.join(missing)} here; it has: {', '.join(data.splits)}")
    claims.claim(folder, claims.SUBMISSION, "--glue_submission")
    info, paths = data.info, []
    for split, name in FILES[task]:
        answers = [line(task, row, info.label_names, info.is_regression) for row in predict(data.splits[split])]
        path = Path(folder) / name
        lines = ["index\tprediction", *(f"{i}\t{answer}" for i, answer in enumerate(answers))]
        whole.write_text(path, "\n".join(lines) + "\n")
        paths.append(path)
    return paths


def line(task: str, logits, label_names, is_regression: bool) -> str:
    """The prediction column for one row of logits [classes]; STS-B is clipped to its scale of 0 to 5."""
    if is_regression:
        return f"{min(max(float(logits[0]), 0.0), 5.0):.3f}"
    best = int(logits.argmax())
    return label_names[best] if task in NAMED else str(best)
