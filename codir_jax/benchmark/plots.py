"""A PNG a sweep, and one of all: labelled axes, powers of two or ten, the spread of the steps as a band."""

from pathlib import Path
from typing import Any

from codir_jax.processes import whole

AXES = {
    "length": ("sentence length [tokens, nothing padded]", 2),
    "batch": ("batch [sentences]", 2),
    "layers": ("teacher layers (the student has half)", 0),
    "negatives": ("negatives K from the bank", 10),
    "bank_rows": ("bank rows [training examples]", 10),
    "devices": ("devices", 2),
}
TITLES = {
    "length": "Training step by sentence length",
    "batch": "Training step by batch size",
    "layers": "Training step by depth",
    "negatives": "Training step by number of negatives",
    "bank_rows": "Training step and state by size of the bank",
    "devices": "Exchange between devices in a training step",
}
_STYLES = ({"marker": "o"}, {"marker": "s"}, {"linestyle": "--"}, {"linestyle": ":"})


def draw(name: str, rows: list[dict[str, Any]], path: Path, constants: str = "") -> None:
    """Writes the plot of one sweep.

    Args:
      name: of the sweep.
      rows: of `sweep.run`, those of this sweep.
      constants: what does not vary, in words.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left, right = PANELS[name]
    for axis, (column, scale, label) in zip(axes, (left, right), strict=True):
        _panel(axis, name, rows, column, scale, label)
    figure.suptitle(TITLES[name] + (f" ({constants})" if constants else ""), fontsize=11)
    skipped = sorted({f"{row['value']:,}: {row['skipped']}" for row in rows if row["skipped"]})
    if skipped:
        figure.supxlabel("not measured: " + "; ".join(skipped), fontsize=8)
    with whole.aside(path) as place:
        figure.savefig(place, dpi=110)
    pyplot.close(figure)


def draw_together(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes one small plot of several sweeps: the first panel of each.

    Args:
      rows: of `sweep.run`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["sweep"] for row in rows))
    columns = min(len(names), 3)
    lines = -(-len(names) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4.6 * columns, 3.4 * lines), layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        _panel(axis, name, [row for row in rows if row["sweep"] == name], *PANELS[name][0])
        axis.set_title(TITLES[name], fontsize=10)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    with whole.aside(path) as place:
        figure.savefig(place, dpi=80)
    pyplot.close(figure)


_TIME = ("step_ms_median", 1.0, "step [ms], median and 5-95 %")
_RATE = ("sentences_per_second", 1.0, "sentences / s")
_PROGRAM = ("program_bytes", 2.0**-20, "memory of the compiled step [MiB]")
_STATE = ("state_bytes", 2.0**-20, "state of the run [MiB]")
PANELS = {
    "length": (_TIME, _RATE),
    "batch": (_TIME, _RATE),
    "layers": (_TIME, _RATE),
    "negatives": (_TIME, _PROGRAM),
    "bank_rows": (_TIME, _STATE),
    "devices": (
        ("collective_bytes", 2.0**-20, "exchanged per device and step [MiB]"),
        ("collectives", 1.0, "collectives per step"),
    ),
}


def _panel(axis, name: str, rows: list[dict[str, Any]], column: str, scale: float, label: str) -> None:
    title, base = AXES[name]
    values = sorted({row["value"] for row in rows})
    for number, series in enumerate(dict.fromkeys(row["series"] for row in rows)):
        points = [row for row in rows if row["series"] == series and row[column] != ""]
        if not any(row[column] for row in points):
            continue
        x, y = [row["value"] for row in points], [scale * row[column] for row in points]
        style = _STYLES[number % len(_STYLES)]
        (line,) = axis.plot(x, y, label=series, markersize=4, linewidth=1.4, **style)
        if column == "step_ms_median":
            low, high = ([row[f"step_ms_{p}"] for row in points] for p in ("p5", "p95"))
            axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if values[0] != values[-1]:  # both panels show the whole axis, also where a point is missing
        margin = (values[-1] / values[0]) ** 0.04 if base else 0.04 * (values[-1] - values[0])
        limits = (values[0] / margin, values[-1] * margin) if base else (values[0] - margin, values[-1] + margin)
        axis.set_xlim(*limits)
    if base:
        axis.set_xscale("log", base=base)
    if base != 10:
        from matplotlib.ticker import NullLocator

        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.xaxis.set_minor_locator(NullLocator())
    if name != "devices":
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
        axis.yaxis.get_major_locator().set_params(integer=column == "collectives")
    axis.set(xlabel=title, ylabel=label)
    axis.grid(alpha=0.25, which="both", linewidth=0.5)
    axis.legend(fontsize=8)
