"""The report of a job: a Markdown table and two plots."""

import json
import textwrap
from pathlib import Path
from typing import Any

from codir_jax.jobs import pareto
from codir_jax.processes import whole

_SMALLER = (
    "Sizes are those of the files, with scales, bitmaps and header. Quantised and pruned weights are widened to "
    "float32 when they are read: they save disk and transfer, not time. Products of factors and fewer units save both. "
    "A row is dominated by one that is no larger and no worse.",
    "",
    "![score against bytes](pareto.png)",
    "",
)
# Of a table on a terminal: metrics with long names, and the width of a model's title.
SHORT = {"matthews_correlation": "MCC"}
TITLE_WIDTH = 20


def table(results: dict[str, Any]) -> str:
    """Markdown table of the models: score, parameters, size, latency, speed-up."""
    metric = results["primary_metric"]
    models = results["models"]
    first = next(iter(models.values()))
    splits = [split for split in first if isinstance(first[split], dict) and metric in first[split]]
    columns: dict[str, Any] = {"model": lambda row: row["title"], "layers": lambda row: str(row["num_layers"])}
    for split in splits:
        columns[f"{split} {metric}{_direction(results)}"] = lambda row, split=split: _number(row[split][metric])
        for other in results["also"]:
            columns[f"{split} {other}"] = lambda row, split=split, other=other: _number(row[split][other])
    columns["parameters"] = lambda row: f"{row['parameters'] / 1e6:.2f} M"
    columns["size"] = lambda row: _size(row["bytes"])
    if results["then"]:
        columns["bits a weight"] = lambda row: f"{row['bits_per_weight']:.1f}"
    for size in sorted(int(key.split("_")[1]) for key in first["latency"] if key.endswith("_p50_ms")):
        columns[f"latency, batch {size}"] = lambda row, key=f"batch_{size}_p50_ms": f"{row['latency'][key]:.1f} ms"
    if len({row["parameters"] for row in models.values()}) > 1:  # else all are as fast as the first
        columns["speed-up"] = lambda row: f"{row['speed_up']:.2f}x"
    if results["then"]:
        titles = {name: row["title"] for name, row in models.items()} | {"": ""}
        columns["dominated by"] = lambda row: titles[row["dominated_by"]]
    rows = [list(columns), *([cell(row) for cell in columns.values()] for row in models.values())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.0f} KiB"


def screen_table(results: dict[str, Any]) -> str:
    """The same for a terminal of 80 columns: words of a header below each other."""
    metric, models = results["primary_metric"], results["models"]
    first = next(iter(models.values()))
    splits = [split for split in first if isinstance(first[split], dict) and metric in first[split]]
    name = SHORT.get(metric, metric.replace("_", " "))
    header = ["model", "layers", *(f"{split} {name}" for split in splits)]
    header += ["million weights", "MiB", "ms, one text", f"ms, {results['latency_batch']} texts", "times faster"]
    lines = [[textwrap.wrap(word, 1, break_long_words=False) for word in header]]
    for row in models.values():
        scores = [f"{row[split][metric]:.4f}" for split in splits]
        latency = [row["latency"][f"batch_{n}_p50_ms"] for n in (1, results["latency_batch"])]
        numbers = [row["parameters"] / 1e6, row["bytes"] / 2**20, *latency]
        cells = [str(row["num_layers"]), *scores, f"{numbers[0]:.2f}", *(f"{number:.1f}" for number in numbers[1:])]
        title = textwrap.wrap(row["title"], TITLE_WIDTH)
        lines.append([title, *([cell] for cell in (*cells, f"{row['speed_up']:.2f}"))])
    widths = [max(len(part) for line in lines for part in line[i]) for i in range(len(header))]
    told = []
    for line in lines:
        for k in range(max(map(len, line))):
            parts = [cell[k] if k < len(cell) else "" for cell in line]
            rest = (part.rjust(width) for part, width in zip(parts[1:], widths[1:], strict=True))
            told.append(" ".join((parts[0].ljust(widths[0]), *rest)).rstrip())
    return "\n".join((*told, *([f"{name}{_direction(results)}"] if _direction(results) else [])))


def write(folder: Path, results: dict[str, Any]) -> None:
    """Writes report.md and report.png into the job's folder."""
    figure_name = "report.png"
    if results["then"]:
        primary = next(metric for metric in results["metrics"] if metric["name"] == results["primary_metric"])
        pareto.write_csv(folder / "pareto.csv", results["models"])
        pareto.plot(folder / "pareto.png", results["models"], primary)
    plot(folder, results, folder / figure_name)
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    text = [
        f"# {results['recipe']}: {results['task']}",
        "",
        table(results),
        "",
        f"Median latency of the model alone on {results['devices']}, texts of median length, padded as codir_jax.load "
        f"does; speed-up at batch {results['latency_batch']}, to the first row. "
        f"Seed {results['seed']}, "
        f"{results['seconds']:.0f} s of training. One seed: differences of a few points between students are noise.",
        "",
        f"Exported to `{results['export']}`: {results['why_exported']}.",
        "",
        f"{results['parity']}.",
        "",
        *(_SMALLER if results["then"] else ()),
        f"![loss terms and dev score over time; score against latency]({figure_name})",
        "",
        f"Made with {versions}.",
        "",
    ]
    whole.write_text(folder / "report.md", "\n".join(text))


def plot(folder: Path, results: dict[str, Any], path: Path) -> None:
    """Three panels: loss terms of the main student, dev score of all stages, score against latency."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric, better = results["primary_metric"], _direction(results)
    largest = f"batch_{results['latency_batch']}_p50_ms"
    curves = {name: read_metrics(folder / name / "metrics.jsonl") for name in results["models"]}
    figure, (losses, scores, trade) = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    of_main = curves[results["main"]]
    terms = dict.fromkeys(name for line in of_main for name in line if name.endswith("loss"))
    for term in (name for name in terms if not name.startswith("dev_")):
        points = [(line["step"], line[term]) for line in of_main if line.get(term) is not None]
        if any(value > 0 for _, value in points):  # the axis is logarithmic
            losses.plot(*zip(*points, strict=True), marker="" if len(points) > 1 else "o", label=term.replace("_", " "))
    losses.set(
        title=f"{results['models'][results['main']]['title']}: loss terms",
        xlabel="step",
        ylabel="mean per example",
        yscale="log",
    )
    losses.legend()
    for name, lines in curves.items():
        points = [(line["step"], line[f"dev_{metric}"]) for line in lines if line.get(f"dev_{metric}") is not None]
        if points:
            scores.plot(*zip(*points, strict=True), marker="o", markersize=3, label=results["models"][name]["title"])
    scores.set(title="dev score over time", xlabel="step", ylabel=f"{metric.replace('_', ' ')}{better}")
    if scores.has_data():
        scores.legend()
    judged = {name: row for name, row in results["models"].items() if metric in row["dev"]}  # without a dev file none
    for name, row in judged.items():
        point = (row["latency"][largest], row["dev"][metric])
        trade.scatter(*point, s=60, marker="o" if name == results["main"] else "s", label=row["title"])
    trade.set(
        title="score against latency",
        xlabel=f"ms per batch of {results['latency_batch']} (median)",
        ylabel=f"dev {metric.replace('_', ' ')}{better}",
    )
    slowest = max(row["latency"][largest] for row in results["models"].values())
    trade.set_xlim(0, 1.1 * slowest)
    if judged:
        trade.legend()
    with whole.aside(path) as place:
        figure.savefig(place, dpi=110)
    pyplot.close(figure)


def _direction(results: dict[str, Any]) -> str:
    """What is said of a metric of which less is better."""
    primary = next(metric for metric in results["metrics"] if metric["name"] == results["primary_metric"])
    return "" if primary["higher_is_better"] else " (less is better)"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl; none where the stage was not run here."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
