"""Size against score: which rows of a job are worth having, and the one for a limit."""

import csv
import re
from collections.abc import Mapping
from operator import le
from pathlib import Path
from typing import Any

from codir_jax.processes import whole
from codir_jax.processes.user_error import UserError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Limit:
    """The largest file, or the largest loss against the first row, that a picked model may have.

    Attributes:
      max_bytes: 0: none. max_loss_percent: of the score of the first row; None: none.
    """

    def __init__(self, max_bytes: str = "", max_loss_percent: float | None = None):
        self.max_bytes, self.max_loss_percent = bytes_of(max_bytes) if max_bytes else 0, max_loss_percent
        if max_loss_percent is not None and not max_loss_percent >= 0:
            raise UserError(f"--max_loss_percent={max_loss_percent} must be 0 or more: so many percent of the score")

    def __bool__(self) -> bool:
        return bool(self.max_bytes) or self.max_loss_percent is not None


def bytes_of(text: str) -> int:
    """The number in "5MB", "400 KiB" or "5000000".

    Raises:
      UserError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if found is None or found[2].upper() not in UNITS or float(found[1]) <= 0:
        raise UserError(f"--max_bytes={text!r}: expected a size such as 5MB, 400KiB or 5000000")
    return int(float(found[1]) * UNITS[found[2].upper()])


def dominators(rows: Mapping[str, Mapping[str, Any]], metric: Mapping[str, Any]) -> dict[str, str]:
    """Name -> another row that is no larger and no worse, and one of both better; "" where there is none.

    Args:
      rows: with "bytes" and dev scores. metric: {"name", "higher_is_better"}.
    """
    points = {name: (row["bytes"], loss(row, metric)) for name, row in rows.items() if _is_judged(row, metric)}
    found = {}
    for name in rows:
        own = points.get(name)
        better = [n for n, point in points.items() if own and point != own and all(map(le, point, own))]
        found[name] = min(better, key=lambda n: points[n][::-1]) if better else ""
    return found


def pick(rows: Mapping[str, Mapping[str, Any]], metric: Mapping[str, Any], limit: Limit) -> str:
    """The name of the best row that is small enough, or of the smallest that is good enough.

    Raises:
      UserError: no row is; the nearest one is told.
    """
    judged = {name: row for name, row in rows.items() if _is_judged(row, metric)}
    if not judged:
        raise UserError("no row has a dev score to pick by; give a dev file")
    worst = float("inf")
    if limit.max_loss_percent is not None:
        first = next(iter(judged.values()))["dev"][metric["name"]]
        room = abs(first) * limit.max_loss_percent / 100
        worst = (-first if metric["higher_is_better"] else first) + room
    small = {n: row for n, row in judged.items() if not limit.max_bytes or row["bytes"] <= limit.max_bytes}
    fitting = {name: row for name, row in small.items() if loss(row, metric) <= worst}
    if not fitting:
        near = min(small or judged, key=lambda name: loss(judged[name], metric) if small else judged[name]["bytes"])
        row = judged[near]
        raise UserError(
            f"no model of this job is within the limit; the nearest is {row['title']!r} with {row['bytes']} bytes and "
            f"{metric['name']} {row['dev'][metric['name']]:.4f}. All rows are in report.md: change the limit, or add "
            "ways with --then"
        )
    if limit.max_loss_percent is not None:
        return min(fitting, key=lambda name: (fitting[name]["bytes"], loss(fitting[name], metric)))
    return min(fitting, key=lambda name: (loss(fitting[name], metric), fitting[name]["bytes"]))


def loss(row: Mapping[str, Any], metric: Mapping[str, Any]) -> float:
    """The dev score, turned so that less is better."""
    score = row["dev"][metric["name"]]
    return -score if metric["higher_is_better"] else score


def write_csv(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """A line a row: name, title, bytes, bits a weight, parameters, scores, latencies, what dominates it."""
    lines = [_flat(name, row) for name, row in rows.items()]
    fields = list(dict.fromkeys(field for line in lines for field in line))
    with whole.aside(path) as place, place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(lines)


def _is_judged(row: Mapping[str, Any], metric: Mapping[str, Any]) -> bool:
    return metric["name"] in row["dev"]


def _flat(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    line = {"name": name, "title": row["title"]}
    line |= {field: row[field] for field in ("bytes", "bits_per_weight", "parameters")}
    for split in ("dev", "test"):
        line |= {f"{split}_{metric}": value for metric, value in row.get(split, {}).items()}
    return line | row["latency"] | {"dominated_by": row["dominated_by"]}
