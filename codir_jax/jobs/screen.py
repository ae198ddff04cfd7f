"""The table of a job for a terminal of 80 columns."""

import textwrap
from collections.abc import Mapping
from typing import Any

from codir_jax.jobs.figures import direction

# Metrics with long names, and the width of a model's title.
SHORT = {"matthews_correlation": "MCC"}
TITLE_WIDTH = 20


def table(results: Mapping[str, Any]) -> str:
    """Model, layers, scores, sizes, times; words of the header stand below each other."""
    metric, models = results["primary_metric"], results["models"]
    first = next(iter(models.values()))
    splits = [split for split in first if isinstance(first[split], dict) and metric in first[split]]
    name = SHORT.get(metric, metric.replace("_", " "))
    header = ["model", "layers", *(f"{split} {name}" for split in splits)]
    header += ["million weights", "MiB", "ms, one text", f"ms, {results['latency_batch']} texts", "times faster"]
    lines = [[textwrap.wrap(word, 1, break_long_words=False) for word in header]]
    bar = results["answers"] and results["answers"]["bar"]
    for row in (*models.values(), *([bar] if bar else ())):
        scores = [f"{row[split][metric]:.4f}" if split in row else "" for split in splits]
        latency = [row["latency"][f"batch_{n}_p50_ms"] for n in (1, results["latency_batch"])]
        numbers = [row["parameters"] / 1e6, row["bytes"] / 2**20, *latency]
        cells = [str(row.get("num_layers", "")), *scores, f"{numbers[0]:.2f}", *(f"{n:.1f}" for n in numbers[1:])]
        title = textwrap.wrap(row["title"], TITLE_WIDTH)
        lines.append([title, *([cell] for cell in (*cells, f"{row['speed_up']:.2f}"))])
    widths = [max(len(part) for line in lines for part in line[i]) for i in range(len(header))]
    told = []
    for line in lines:
        for k in range(max(map(len, line))):
            parts = [cell[k] if k < len(cell) else "" for cell in line]
            rest = (part.rjust(width) for part, width in zip(parts[1:], widths[1:], strict=True))
            told.append(" ".join((parts[0].ljust(widths[0]), *rest)).rstrip())
    return "\n".join((*told, *([f"{name}{direction(results)}"] if direction(results) else [])))


def summary(results: Mapping[str, Any]) -> str:
    """The table and the sentences below it, in lines of 80 columns."""
    of_splits = (("", results["over_seeds"]), (" on test", results["over_seeds_on_test"]))
    seeds = [f"{row['title']}{split}: {row['told']}" for split, rows in of_splits for row in rows.values()]
    sentences = [*seeds, results["verdict"], f"exported: {results['why_exported']}", *results["parity"].split("\n")]
    return "\n".join((table(results), "", *("\n".join(textwrap.wrap(sentence, 80)) for sentence in sentences)))
