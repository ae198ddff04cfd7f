"""The table of a sweep: mean, spread, paired differences, from the results of its runs."""

from pathlib import Path
from typing import Any, NamedTuple

from codir_jax.evaluation import statistics
from codir_jax.evaluation.metrics import Metric
from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError
from codir_jax.stage.workdir import read_results


def primary(results: dict[str, Any]) -> Metric:
    """The metric that the run was judged by."""
    return Metric(**results["metrics"][0])


def score(results: dict[str, Any], metric: Metric, workdir: str) -> float:
    """The dev score of a finished run.

    Raises:
      UserError: there is none; what there is is listed.
    """
    if metric.name not in results["dev"]:
        raise UserError(f"{workdir} has no {metric.name} on dev; known: {', '.join(results['dev']) or 'nothing'}")
    return results["dev"][metric.name]


class _Unit(NamedTuple):
    """How numbers of a metric are told."""

    scale: float
    digits: int

    def number(self, value: float, sign: str = "") -> str:
        return f"{self.scale * value:{sign}.{self.digits}f}"


def make(arms, tasks, final, chosen, searched, baseline: str, metric: str = "") -> dict[str, Any]:
    """Everything the printed table holds, for each task and arm; of the primary metric, or of `metric`.

    Args:
      arms: of `sweep.Arm`. final: (task, arm) -> runs of the reported seeds.
      chosen, searched: (task, arm) -> overrides of the best trial; every trial's mean score. A cell whose search has no
        winner yet has None and no runs.

    Raises:
      UserError: arms of a task that are judged by different metrics or a run without the metric.
    """
    table: dict[str, Any] = {}
    for task in tasks:
        rows: dict[str, Any] = {}
        found = {arm.name: [read_results(Path(run.workdir)) for run in final[task, arm.name]] for arm in arms}
        for arm in arms:
            rows[arm.name] = {
                "config": arm.config.replace("{task}", task),
                "overrides": [f"{k}={v}" for k, v in (*arm.fixed, *(chosen[task, arm.name] or ()))],
                "search": searched[task, arm.name],
                **_row(found[arm.name], final[task, arm.name], metric),
            }
        told = sorted({row["metric"]["name"] for row in rows.values() if "metric" in row})
        if len(told) > 1:
            raise UserError(f"the arms of {task} are judged by {' and '.join(told)}; choose one by --metric")
        for arm in arms:
            pairs = [
                (ours["dev"][told[0]], theirs["dev"][told[0]])
                for ours, theirs in zip(found[arm.name], found[baseline], strict=False)  # no winner, no runs
                if ours and theirs
            ]
            if len(pairs) > 1 and arm.name != baseline:
                rows[arm.name]["difference"] = statistics.paired_difference(*zip(*pairs, strict=True))._asdict()
        table[task] = rows
    return table


def _row(found: list[dict[str, Any] | None], runs, name: str) -> dict[str, Any]:
    """What the finished runs of a cell tell."""
    finished = [(results, run) for results, run in zip(found, runs, strict=True) if results]
    row: dict[str, Any] = {"seeds": [results["seed"] for results, _ in finished]}
    if not finished:
        return row
    of_run = primary(finished[0][0])
    known = {one["name"]: Metric(**one) for one in finished[0][0]["metrics"]}
    metric = known.get(name, Metric(name, unit="")) if name else of_run  # another number of dev is told as it is
    results = [each for each, _ in finished]
    row |= {"metric": metric._asdict(), "scores": [score(each, metric, run.workdir) for each, run in finished]}
    row["last_scores"] = [each["dev_last"][metric.name] for each in results]
    row |= {"summary": statistics.summary(row["scores"])._asdict(), "seconds": [each["seconds"] for each in results]}
    row["teacher"] = (results[0].get("teacher_dev") or {}).get(metric.name)
    for distance in ("teacher_kl", "teacher_agreement", "teacher_mse"):
        values = [each["dev"][distance] for each in results if distance in each["dev"]]
        if values:
            row[distance] = sum(values) / len(values)
    return row


# That lie beside the folders of the tasks.
FILES = ("table.md", "table.json")


def write(folder: Path, table: dict[str, Any], baseline: str) -> None:
    """Writes table.md and table.json."""
    whole.write_text(folder / "table.md", markdown(table, baseline))
    whole.write_json(folder / "table.json", table)


def markdown(table: dict[str, Any], baseline: str) -> str:
    """The table as Markdown: shares times 100, other units as they are."""
    lines = []
    for task, rows in table.items():
        metric = next((Metric(**row["metric"]) for row in rows.values() if "metric" in row), Metric(""))
        unit = _Unit(100, 1) if metric.unit == "share" else _Unit(1, 3)
        teacher = next((row["teacher"] for row in rows.values() if row.get("teacher") is not None), None)
        told = " x 100" if metric.unit == "share" else f", {metric.unit}" if metric.unit else ""
        told += "" if metric.higher_is_better else " (less is better)"
        of_teacher = f", teacher {unit.number(teacher)}" if teacher is not None else ""
        lines += [
            f"### {task}: {metric.name}{told} on dev{of_teacher}",
            "",
            f"| arm | mean | sd | seeds | minus {baseline} (95 % interval) | KL to teacher | settings |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            settings = " ".join(row["overrides"]) or "-"
            if "summary" not in row:
                lines.append(f"| {name} | | | 0 | | | {settings} |")
                continue
            mean, sd, n = (row["summary"][key] for key in ("mean", "sd", "n"))
            spread = unit.number(sd) if sd is not None else ""
            gap = ""
            if "difference" in row:
                gap = "{} ({} to {})".format(*(unit.number(row["difference"][k], "+") for k in ("mean", "low", "high")))
            kl = f"{row['teacher_kl']:.3f}" if "teacher_kl" in row else ""
            lines.append(f"| {name} | {unit.number(mean)} | {spread} | {n} | {gap} | {kl} | {settings} |")
        lines.append("")
    return "\n".join(lines)
