"""The report of a job: the same contents as Markdown and as one HTML file, with their figures."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codir_jax.jobs import document, figures, over_seeds, pareto, served
from codir_jax.jobs.answers import BAR
from codir_jax.jobs.document import Block, Code, Figure, Heading, Paragraph, Table
from codir_jax.jobs.recipe import TEACHER

NAME = "report"
FIGURES = "figures"
PER_PRICE = 1_000_000  # texts of which the cost is told
_MS_PER_HOUR = 3.6e6

_SMALLER = (
    "Sizes are those of the files, with scales, bitmaps and header. Quantised and pruned weights are widened to "
    "float32 when they are read: they save disk and transfer, not time. Products of factors and fewer units save both. "
    "A row is dominated by one that is no larger and no worse."
)


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes report.md, report.html, figures/ and, of a model made smaller in several ways, pareto.csv.

    Args:
      folder: of the job, with its stages. results: as `results.json` holds them.
    """
    seeds = results["seeds"]
    parts = [over_seeds.place(folder, seed, seeds[0]) for seed in seeds]
    places = {name: [part / name for part in parts] for name in results["models"]}
    figures.curves(folder / FIGURES / "curves.svg", places, results)
    has_health = figures.health(folder / FIGURES / "health.svg", folder / results["main"])
    if points := _points(results):
        figures.trade(folder / FIGURES / "trade.svg", points, results)
    if results["then"]:
        pareto.write_csv(folder / "pareto.csv", results["models"])
    document.write(folder, NAME, contents(folder, results, has_trade=bool(points), has_health=has_health))


def contents(folder: Path, results: Mapping[str, Any], *, has_trade: bool, has_health: bool) -> list[Block]:
    """The blocks of the page."""
    answers = results["answers"]
    page: list[Block] = [Heading(f"{results['recipe']}: {results['task']}", 1), Paragraph(results["verdict"])]
    parity = results["parity"].replace("\n", ". ")
    page += [Paragraph(f"Exported to {results['export']}: {results['why_exported']}. {parity}.")]
    page += [Heading("Models"), models_table(results), Paragraph(_notes(results))]
    if results["then"]:
        page.append(Paragraph(_SMALLER))
    if results["arms"]:
        page += [Heading("By domain"), *_arms(results)]
    if results["over_seeds"]:
        page += [Heading(f"Over {len(results['seeds'])} seeds"), *_seeds(results)]
    if has_trade:
        over = "seeds" if results["over_seeds"] else "rows of dev"
        bars = f" Bars: 95 % interval over the {over}." if results["over_seeds"] or answers else ""
        told = f"Score against time and size.{bars} Pale: another is no worse for less."
        page.append(Figure(f"{FIGURES}/trade.svg", told))
    if answers:
        page += _classes(results, answers) + _disagreements(results, answers)
    page += served.section(results)
    page += [Heading("Training"), Figure(f"{FIGURES}/curves.svg", "Loss terms and dev scores over the whole run")]
    if has_health:
        page.append(Figure(f"{FIGURES}/health.svg", _health(folder, results)))
    board = f"pip install tensorboard; tensorboard --logdir={folder}"
    page += [_settings(folder, results), Paragraph("Every metric of every stage, in a browser:"), Code(board)]
    page += _origin(results)
    return page


def models_table(results: Mapping[str, Any]) -> Table:
    """A row a model, and one for counted words: scores, sizes, times, cost."""
    metric, size = results["primary_metric"], results["latency_batch"]
    first = next(iter(results["models"].values()))
    splits = [split for split in first if isinstance(first[split], dict) and metric in first[split]]
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "model": lambda row: row["title"],
        "layers": lambda row: str(row.get("num_layers", "")),
    }
    for split in splits:
        for name in (metric, *results["also"]):
            told = figures.direction(results) if name == metric else ""
            columns[f"{split} {name.replace('_', ' ')}{told}"] = lambda row, split=split, name=name: _number(
                row.get(split, {}).get(name)
            )
    columns["parameters"] = lambda row: _count(row["parameters"])
    columns["size"] = lambda row: _size(row["bytes"])
    if results["then"]:
        columns["bits a weight"] = lambda row: f"{row['bits_per_weight']:.1f}" if "bits_per_weight" in row else ""
    columns["one text, ms"] = lambda row: _ms(row["latency"]["batch_1_p50_ms"])
    columns[f"{size} texts, ms"] = lambda row: _ms(row["latency"][f"batch_{size}_p50_ms"])
    columns["speed-up"] = lambda row: f"{row['speed_up']:.2f}x"
    if (price := results["price_per_hour"]) is not None:
        columns["cost of 1 million texts"] = lambda row: f"{_cost(row, size, price):.3g}"
    if results["then"]:
        titles = {name: row["title"] for name, row in results["models"].items()} | {"": ""}
        columns["dominated by"] = lambda row: titles[row.get("dominated_by", "")]
    rows = [*results["models"].values(), *([bar] if (bar := _bar(results)) else [])]
    return Table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _cost(row: Mapping[str, Any], size: int, price: float) -> float:
    return row["latency"][f"batch_{size}_p50_ms"] / size * PER_PRICE / _MS_PER_HOUR * price


def _bar(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return results["answers"] and results["answers"]["bar"]


def _notes(results: Mapping[str, Any]) -> str:
    size = results["latency_batch"]
    told = [
        f"Times are medians of the model alone on {results['devices']}, texts of median length, padded as "
        f"codir_jax.load does; speed-up at {size} texts, to the first row."
    ]
    if bar := _bar(results):
        told.append(
            f"{bar['title']}: words and pairs of neighbouring words of {bar['num_train']:,} train rows, in "
            "scikit-learn; its time includes the counting of the words."
        )
    if (price := results["price_per_hour"]) is not None:
        told.append(f"Cost: {price:g} an hour for this machine, busy with batches of {size} texts all the time.")
    return " ".join(told)


def _arms(results: Mapping[str, Any]) -> list[Block]:
    """A row an arm, a column a domain."""
    arms, metric = results["arms"], results["primary_metric"].replace("_", " ")
    first = next(iter(arms["by_arm"].values()))
    rows = []
    for row in arms["by_arm"].values():
        scores = [f"{score:.4f}" for score in (*row["by_domain"].values(), row["score"])]
        rows.append([row["title"], *scores, f"{row['low']:.4f} to {row['high']:.4f}", _gap(row)])
    header = ["arm", *first["by_domain"], f"all {arms['num_rows']} rows", "95 % interval", f"less {first['title']}"]
    return [
        Table(header, rows),
        Paragraph(f"Dev {metric}{figures.direction(results)}; intervals over {arms['over']}, differences paired."),
    ]


def _gap(row: Mapping[str, Any]) -> str:
    """The difference of a row to the one that it is compared with; "" of that one."""
    gap = row.get("difference")
    return f"{gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})" if gap else ""


def _seeds(results: Mapping[str, Any]) -> list[Block]:
    header = ["model", "split", "mean", "95 % interval", "minus plain training", "scores"]
    rows = []
    for split, of_split in (("dev", results["over_seeds"]), ("test", results["over_seeds_on_test"])):
        for row in of_split.values():
            scores = " ".join(f"{score:.4f}" for score in row["scores"])
            interval = f"{row['low']:.4f} to {row['high']:.4f}"
            rows.append([row["title"], split, f"{row['mean']:.4f}", interval, _gap(row), scores])
    seeds = ", ".join(map(str, results["seeds"]))
    once, taught = "", ", one teacher for all" if TEACHER in results["models"] else ""
    if results["over_seeds_on_test"]:
        once = " Of each run the best checkpoint on dev is taken; test is looked at once."
    return [
        Table(header, rows),
        Paragraph(
            f"Seeds {seeds}{taught}; intervals by Student's t, differences paired by seed.{once} "
            f"Everything else in this report is of seed {results['seeds'][0]}."
        ),
    ]


def _points(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What of the models is drawn; none without a dev score."""
    metric, key = results["primary_metric"], f"batch_{results['latency_batch']}_p50_ms"
    rows = {**results["models"], **({BAR: bar} if (bar := _bar(results)) else {})}
    by_rows = results["answers"]["by_model"] if results["answers"] else {}
    points = {}
    for name, row in rows.items():
        if metric not in row.get("dev", {}):
            continue
        score, interval = row["dev"][metric], by_rows.get(name, {}).get("interval")
        if results["over_seeds"]:
            own = results["over_seeds"].get(name)
            score, interval = (own["mean"], (own["low"], own["high"])) if own else (score, None)
        points[name] = {"title": row["title"], "score": score, "ms": row["latency"][key], "bytes": row["bytes"]}
        points[name] |= {"interval": interval, "is_main": name == results["main"]}
    return points


def _title(results: Mapping[str, Any], name: str) -> str:
    return _bar(results)["title"] if name == BAR else results["models"][name]["title"]


def _classes(results: Mapping[str, Any], answers: Mapping[str, Any]) -> list[Block]:
    """By class precision, recall and F1, and the confusions; of numbers the error in each quarter of the targets."""
    shown = [name for name in (TEACHER, results["exported"], BAR) if name in answers["by_model"]]
    by_model = {_title(results, name): answers["by_model"][name] for name in shown}
    exported, names = _title(results, results["exported"]), answers["label_names"]
    if not names:
        quarters = next(iter(by_model.values()))["quarters"]
        rows = [
            [
                f"{part['from']:.4g} to {part['to']:.4g}",
                *(f"{own['quarters'][i]['error']:.4g}" for own in by_model.values()),
            ]
            for i, part in enumerate(quarters)
        ]
        return [
            Heading("By size of the target"),
            Table(["quarter of the targets", *by_model], rows),
            Paragraph("Mean absolute error on dev, in the units of the targets."),
        ]
    rows = [
        [name, title, str(own["classes"][i]["support"]), *(f"{own['classes'][i][key]:.3f}" for key in _PER_CLASS)]
        for i, name in enumerate(names)
        for title, own in by_model.items()
    ]
    page: list[Block] = [
        Heading("By class"),
        Table(["class", "model", "dev rows", "precision", "recall", "F1"], rows, num_texts=2),
    ]
    if not answers["confused"]:
        return [*page, Paragraph("A text has any number of classes; a model answers those above a probability of 0.5.")]
    page.append(Heading("What is taken for what", 3))
    if "matrix" in answers["confused"]:
        matrix = zip(names, answers["confused"]["matrix"], strict=True)
        page.append(Table(["label \\ answer", *names], [[name, *map(str, row)] for name, row in matrix]))
        return [*page, Paragraph(f"Dev rows of {exported}: a line a label, a column an answer.")]
    pairs = [[label, answer, str(count)] for label, answer, count in answers["confused"]["pairs"]]
    return [
        *page,
        Table(["label", "answer", "dev rows"], pairs, num_texts=2),
        Paragraph(f"Of {exported}, the most frequent errors."),
    ]


_PER_CLASS = ("precision", "recall", "f1")


def _disagreements(results: Mapping[str, Any], answers: Mapping[str, Any]) -> list[Block]:
    found = answers.get("disagreements")
    if not found:
        return []
    student = _title(results, results["exported"])
    if answers["label_names"]:
        told = (
            f"Teacher and {student} differ on {found['count']} of {answers['num_rows']} dev rows: there the teacher "
            f"is right on {found['teacher_right']}, the student on {found['student_right']}. The first "
            f"{len(found['rows'])}:"
        )
    else:
        told = (
            f"Teacher and {student} differ by {found['mean_distance']:.4g} in the mean of {answers['num_rows']} dev "
            f"rows. The {len(found['rows'])} farthest:"
        )
    rows = [
        [str(row["row"]), " / ".join(row["texts"]), row["label"], row["teacher"], row["student"]]
        for row in found["rows"]
    ]
    table = [Table(["dev row", "text", "label", "teacher", "student"], rows, num_texts=None)] if rows else []
    return [Heading("Where teacher and student differ"), Paragraph(told), *table]


def _health(folder: Path, results: Mapping[str, Any]) -> str:
    """Whether the main student's terms had something to teach, and since when not."""
    main, told = results["models"][results["main"]]["title"], []
    own = folder / results["main"] / "results.json"
    since = json.loads(own.read_text()).get("nothing_to_teach_since", {}) if own.exists() else {}
    for name, step in since.items():
        told.append(f"By {name.replace('_', ' ')} a term of {main} has had nothing to teach since step {step}.")
    return " ".join(told) or f"{main}: every term had something to teach to the end, as far as its metrics tell."


def _settings(folder: Path, results: Mapping[str, Any]) -> Table:
    """What each stage was trained with; all settings are in its config.json."""
    rows = []
    for name, row in results["models"].items():
        if not (folder / name / "results.json").exists():
            continue
        config, run = (json.loads((folder / name / f"{file}.json").read_text()) for file in ("config", "results"))
        method, size, length = (
            _setting(config, key) for key in ("objective.name", "data.batch_size", "data.max_length")
        )
        cells = [row["title"], method, size, f"{run['learning_rate']:g}", length, str(run["num_steps"])]
        rows.append([*cells, str(run["best_step"]), f"{run['seconds']:.0f}"])
    header = ["stage", "objective", "batch size", "learning rate", "longest text", "steps", "best step", "seconds"]
    return Table(header, rows, num_texts=2)


def _setting(config: Mapping[str, Any], key: str) -> str:
    value: Any = config
    for part in key.split("."):
        value = value.get(part, "") if isinstance(value, Mapping) else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _origin(results: Mapping[str, Any]) -> list[Block]:
    """Where it comes from, and how to make it again."""
    sizes = ", ".join(f"{name} {count:,}" for name, count in results["num_examples"].items())
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    told = [
        ("given model", results["given"] or "none: made by this job"),
        ("data", results["task"] + (f" (rows: {sizes})" if sizes else "")),
        ("seeds", ", ".join(map(str, results["seeds"]))),
        ("training", f"{results['seconds']:.0f} s on {results['devices']}"),
        ("versions", versions),
        *([("git commit", results["git_commit"])] if results["git_commit"] else []),
    ]
    return [
        Heading("How it was made"),
        Table(["what", "value"], told, num_texts=None),
        Paragraph("All settings of a stage are in its config.json. To make it again:"),
        Code(results["command"]),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number / 1e3:.1f} k"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:.0f} KiB"
