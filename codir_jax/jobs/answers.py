"""What the models of a job answer on dev: class by class, against each other, and against counted words."""

import functools
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from codir_jax.data.splits import RawSplit
from codir_jax.evaluation import metrics, runner, tf_idf
from codir_jax.evaluation import statistics as intervals
from codir_jax.tasks.contract import Task

# Rows where teacher and student disagree that a report shows, and characters of a text.
NUM_SHOWN = 20
MAX_CHARACTERS = 300
# Of more classes than this a table of all pairs cannot be read; the most frequent confusions are listed.
MAX_MATRIX_CLASSES = 12
BAR = "bar"
NUM_TIMED = 20


def compare(
    task: Task,
    answers: Mapping[str, np.ndarray],
    *,
    metric: str,
    teacher: str,
    student: str,
    baseline: str,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """What a report tells of the rows, as `results.json` holds it.

    Args:
      task: with `read_rows`.
      answers: name of a model -> logits on dev, float32 [n, classes]; of a regression [n, 1]. Of any number of classes
        a text there is no table of confusions, and two models agree on a row where they agree on all classes.
      metric: of `metrics.METRICS`, by which the rows are drawn again.
      teacher, student: whose disagreements are shown; those that have no answers are left out.
      baseline: that the others are compared with; "" is none.
      batch_size: of the second time of the bar.
      seed: of draws.

    Returns:
      {"num_rows", "bar" (None without labelled train rows), "by_model": name -> what `_by_class` or `_by_size`
      tells with "interval", the score's 95 % interval over the rows, and "difference" to the baseline, "confused"
      (of the student), "disagreements"}.
    """
    rows = task.read_rows()
    dev, is_regression, several = rows["dev"], task.labels.is_regression, task.labels.is_multi_label
    names = task.labels.names or ()
    labels = np.asarray(dev.labels)
    predictions = {name: runner.answers_of(logits, is_regression, several) for name, logits in answers.items()}
    bar = _bar(rows, is_regression, metric, batch_size, seed) if "train" in rows else None
    if bar:
        predictions[BAR] = bar.pop("predictions")
    told = _by_size if is_regression else functools.partial(_by_class, names=names)
    by_model = {name: told(labels, found) for name, found in predictions.items()}
    score = metrics.METRICS[metric]
    scores = intervals.resampled_scores(score, labels, predictions, seed=seed)
    for name, own in by_model.items():
        own["interval"] = [float(end) for end in np.percentile(scores[name], (2.5, 97.5))]
        if baseline and name != baseline:
            observed = score(labels, predictions[name]) - score(labels, predictions[baseline])
            own["difference"] = intervals.resampled_difference(observed, scores[name], scores[baseline])._asdict()
    found: dict[str, Any] = {"num_rows": len(labels), "label_names": list(names), "bar": bar, "by_model": by_model}
    found["confused"] = {} if is_regression or several else _confused(labels, predictions[student], names)
    if teacher in predictions:
        pair = predictions[teacher], predictions[student]
        found["disagreements"] = _disagreements(dev, labels, *pair, names)
    return found


def texts_of(rows: RawSplit) -> list[tuple[str, ...]]:
    """Of each row the one text, or the two of a pair."""
    columns = [rows.texts_a, *([rows.texts_b] if rows.texts_b is not None else []), *rows.apart]
    return list(zip(*columns, strict=True))


def _bar(
    rows: Mapping[str, RawSplit], is_regression: bool, metric: str, batch_size: int, seed: int
) -> dict[str, Any] | None:
    """A linear model of counted words on the same rows: scores, size, time; None without labelled train rows."""
    if not len(rows["train"]):
        return None
    model = tf_idf.linear_model(texts_of(rows["train"]), rows["train"].labels, is_regression, seed)
    scores, predictions = {}, {}
    for split, judged in rows.items():
        if split != "train" and judged.labels is not None and None not in judged.labels:
            predictions[split] = model.predict(texts_of(judged))
            scores[split] = {metric: metrics.METRICS[metric](np.asarray(judged.labels), predictions[split])}
    dev = texts_of(rows["dev"])
    latency = {
        f"batch_{size}_p50_ms": statistics.median(_milliseconds(model, dev, start, size) for start in range(NUM_TIMED))
        for size in (1, batch_size)
    }
    return {
        "title": model.title,
        "num_train": model.num_rows,
        "parameters": model.num_weights,
        "bytes": model.num_bytes,
        "latency": latency,
        **scores,
        "predictions": predictions["dev"],
    }


def _milliseconds(model: tf_idf.LinearModel, texts: list[tuple[str, ...]], start: int, size: int) -> float:
    batch = [texts[(start * size + i) % len(texts)] for i in range(size)]
    before = time.perf_counter()
    model.predict(batch)
    return 1e3 * (time.perf_counter() - before)


def _by_class(labels: np.ndarray, predictions: np.ndarray, names) -> dict[str, Any]:
    """{"classes": a row a class with precision, recall, F1 and how often it is the label}."""
    from sklearn.metrics import precision_recall_fscore_support

    predictions = predictions > 0 if labels.ndim == 2 else predictions
    columns = precision_recall_fscore_support(labels, predictions, labels=range(len(names)), zero_division=0.0)
    keys = ("precision", "recall", "f1", "support")
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return {"classes": [dict(zip(("name", *keys), row, strict=True)) for row in rows]}


def _by_size(labels: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    """{"quarters": mean absolute error in each quarter of the targets, from the smallest ones}."""
    quarters = np.array_split(np.argsort(labels, kind="stable"), 4)
    errors = np.abs(labels - predictions)
    return {
        "quarters": [
            {"from": float(labels[rows].min()), "to": float(labels[rows].max()), "error": float(errors[rows].mean())}
            for rows in quarters
            if len(rows)
        ]
    }


def _confused(labels: np.ndarray, predictions: np.ndarray, names) -> dict[str, Any]:
    """{"matrix": [label][answer] -> rows}, or of many classes {"pairs": [label, answer, rows], most frequent first}."""
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(labels, predictions, labels=range(len(names)))
    if len(names) <= MAX_MATRIX_CLASSES:
        return {"matrix": matrix.tolist()}
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:NUM_SHOWN]
    pairs = [(*divmod(int(place), len(names)), int(matrix.flat[place])) for place in order]
    return {"pairs": [[names[label], names[answer], count] for label, answer, count in pairs if count]}


def _disagreements(dev: RawSplit, labels, teacher, student, names) -> dict[str, Any]:
    """{"count", "teacher_right", "student_right" (of classes), "rows": the first ones, of numbers the farthest}."""
    if labels.ndim == 2:
        labels, teacher, student = (_sets(answer) for answer in (labels, teacher, student))
    if names:
        differing = np.flatnonzero(teacher != student)
        right = {
            "teacher_right": int((teacher == labels)[differing].sum()),
            "student_right": int((student == labels)[differing].sum()),
        }
    else:
        differing = np.argsort(-np.abs(teacher - student), kind="stable")
        right = {"mean_distance": float(np.abs(teacher - student).mean())}

    def told(value) -> str:
        if isinstance(value, tuple):
            return ", ".join(names[i] for i in value) or "none"
        return names[int(value)] if names else f"{value:.4g}"

    texts = texts_of(dev)
    return {
        "count": len(differing),
        **right,
        "rows": [
            {
                "row": int(row) + 1,
                "texts": [_cut(text) for text in texts[row]],
                "label": told(labels[row]),
                "teacher": told(teacher[row]),
                "student": told(student[row]),
            }
            for row in differing[:NUM_SHOWN]
        ],
    }


def _sets(answers: np.ndarray) -> np.ndarray:
    """The classes of each row of [n, classes], above 0 for yes: an array of n tuples of numbers."""
    sets = np.empty(len(answers), object)
    sets[:] = [tuple(np.flatnonzero(row > 0).tolist()) for row in answers]
    return sets


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 4].rstrip() + " ..."
