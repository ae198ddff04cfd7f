"""The pictures of a job's report, as SVG."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codir_jax.processes import whole

# More rows than a legend can tell apart are written beside their points.
MAX_IN_LEGEND = 10


def direction(results: Mapping[str, Any]) -> str:
    """What is said of a metric of which less is better."""
    primary = results["metrics"][0]
    return "" if primary["higher_is_better"] else " (less is better)"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl; none where the stage was not run here."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def curves(path: Path, folders: Mapping[str, list[Path]], results: Mapping[str, Any]) -> None:
    """Two panels over all steps: loss terms of the main student, dev score of every stage and seed.

    Args:
      folders: name of a stage -> its workdirs, the first seed's first.
    """
    pyplot, metric = _pyplot(path.name), results["primary_metric"]
    lines = {name: [read_metrics(place / "metrics.jsonl") for place in places] for name, places in folders.items()}
    figure, (losses, scores) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    of_main = lines[results["main"]][0]
    terms = dict.fromkeys(name for line in of_main for name in line if name.endswith("loss"))
    for term in (name for name in terms if not name.startswith("dev_")):
        points = [(line["step"], line[term]) for line in of_main if line.get(term) is not None]
        if any(value > 0 for _, value in points):  # the axis is logarithmic
            losses.plot(*zip(*points, strict=True), marker="" if len(points) > 1 else "o", label=term.replace("_", " "))
    title = results["models"][results["main"]]["title"]
    losses.set(title=f"{title}: loss terms", xlabel="step", ylabel="mean per example (log axis)", yscale="log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("")
    losses.set_xlim(left=0)
    if losses.has_data():
        losses.legend()
    for number, (name, runs) in enumerate(lines.items()):
        for seed, run in enumerate(runs):
            points = [(line["step"], line[f"dev_{metric}"]) for line in run if line.get(f"dev_{metric}") is not None]
            if points:
                look = {"label": results["models"][name]["title"]} if seed == 0 else {"alpha": 0.3, "linewidth": 1}
                scores.plot(*zip(*points, strict=True), color=f"C{number}", marker="o", markersize=3, **look)
    scores.set(title="dev score", xlabel="step", ylabel=_score_label(results))
    scores.set_xlim(left=0)
    if scores.has_data():
        scores.legend()
    _save(figure, path)


# Title of a panel -> (whether a metric is drawn in it, axis, its scale).
_HEALTH = {
    "What a term still has to teach": (
        lambda name: name.endswith("retrieval_rate") or name.startswith("gradient_cosine_"),
        "share ranked first; cosine with the task",
        "linear",
    ),
    "Gradients of the terms": (lambda name: name.startswith("gradient_norm_"), "length (log axis)", "log"),
    "Similarity distributions": (lambda name: name.endswith("_entropy"), "entropy, nats", "linear"),
}


def health(path: Path, folder: Path) -> bool:
    """A panel for each kind of number that tells how a stage's terms fare; False, and no file, where there is none.

    Args:
      folder: workdir of the stage.
    """
    lines = read_metrics(folder / "metrics.jsonl")
    names = sorted({name for line in lines for name in line})
    panels = {title: own for title, (is_in, *_) in _HEALTH.items() if (own := [n for n in names if is_in(n)])}
    if not panels:
        return False
    pyplot = _pyplot(path.name)
    width = 11 if len(panels) > 1 else 6
    figure, axes = pyplot.subplots(1, len(panels), figsize=(width, 4), layout="constrained", squeeze=False)
    for panel, (title, own) in zip(axes[0], panels.items(), strict=True):
        for name in own:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.replace("_", " "))
        _, label, scale = _HEALTH[title]
        panel.set(title=title, xlabel="step", ylabel=label, yscale=scale)
        panel.set_xlim(left=0)
        if scale == "linear":
            low, high = panel.get_ylim()
            panel.set_ylim(min(0, low), max(1, high))
        panel.legend(fontsize=7)
    _save(figure, path)
    return True


def trade(path: Path, points: Mapping[str, Mapping[str, Any]], results: Mapping[str, Any]) -> None:
    """Two panels: score against latency and against bytes, both from zero; the line joins what nothing dominates.

    Args:
      points: name -> {"title", "score", "ms", "bytes", "interval": (low, high) of the score or None, "is_main"}.
    """
    pyplot = _pyplot(path.name)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    sign = -1 if direction(results) else 1
    sizes = {name: {"ms": point["ms"], "MB": point["bytes"] / 1e6} for name, point in points.items()}
    panels = (("ms", f"median ms of {results['latency_batch']} texts"), ("MB", "MB on disk"))
    for panel, (unit, label) in zip(axes, panels, strict=True):
        front = [
            name
            for name, own in points.items()
            if not any(
                sizes[other][unit] <= sizes[name][unit]
                and sign * p["score"] >= sign * own["score"]
                and (sizes[other][unit], p["score"]) != (sizes[name][unit], own["score"])
                for other, p in points.items()
            )
        ]
        for number, (name, point) in enumerate(points.items()):
            x, score, interval = sizes[name][unit], point["score"], point["interval"]
            spread = [[score - interval[0]], [interval[1] - score]] if interval else None
            panel.errorbar(
                x, score, yerr=spread, fmt="o" if point["is_main"] else "s", color=f"C{number % 10}", capsize=3,
                elinewidth=0.8, alpha=1.0 if name in front else 0.5, label=point["title"],
            )  # fmt: skip
            if len(points) > MAX_IN_LEGEND:
                panel.annotate(point["title"], (x, score), xytext=(4, 3), textcoords="offset points", fontsize=7)
        line = sorted((sizes[name][unit], points[name]["score"]) for name in front)
        panel.plot(*zip(*line, strict=True), color="0.6", linewidth=0.8, zorder=0)
        panel.set(xlabel=f"{label} (axis from 0)", xlim=(0, 1.1 * max(size[unit] for size in sizes.values())))
    axes[0].set_ylabel(_score_label(results))
    if len(points) <= MAX_IN_LEGEND:
        axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def _score_label(results: Mapping[str, Any]) -> str:
    return f"dev {results['primary_metric'].replace('_', ' ')}{direction(results)}\n(axis not from 0)"


def _pyplot(name: str):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # Titles are texts and not formulas; equal figures are equal files.
    pyplot.rcParams.update({"text.parse_math": False, "svg.hashsalt": name, "font.size": 9})
    return pyplot


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole.aside(path) as place:
        figure.savefig(place, metadata={"Date": None})
    pyplot.close(figure)
