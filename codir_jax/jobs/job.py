"""A finished job: what `codir_jax.compress` returns."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Job(Mapping):
    """A mapping of what `results.json` holds, with the student, the table and the report at hand.

    Attributes:
      folder: of the job. results: what `results.json` holds.

    Example:
      >>> job = codir_jax.compress(train="train.tsv", dev="dev.tsv", teacher="roberta-base", output="runs/mine")
      >>> job.student(["a charming and often affecting journey"])
      >>> job.table  # a row a model; pandas.DataFrame(job.table) shows it
      >>> job.report  # the path of report.html
    """

    def __init__(self, folder: str | Path, results: Mapping[str, Any]):
        self.folder, self.results = Path(folder), results

    @functools.cached_property
    def student(self):
        """The exported model as a function of texts, as `codir_jax.load` returns it."""
        from codir_jax.predict.load import load

        return load(self["export"])

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row a model: name, title, score of each split, parameters, bytes, median ms, speed-up."""
        bar = self["answers"] and self["answers"]["bar"]
        rows = {**self["models"], **({"bar": bar} if bar else {})}
        return [_flat(name, row, self["primary_metric"]) for name, row in rows.items()]

    @property
    def report(self) -> Path:
        """The report, one HTML file; report.md beside it says the same."""
        return self.folder / "report.html"

    def __getitem__(self, key: str) -> Any:
        return self.results[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        return f"Job({str(self.folder)!r}: {self['verdict']})"

    def __str__(self) -> str:
        from codir_jax.jobs import screen

        return screen.summary(self.results)


def _flat(name: str, row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    scores = {split: row[split][metric] for split in row if isinstance(row[split], Mapping) and metric in row[split]}
    times = {key: value for key, value in row["latency"].items() if key.endswith("_p50_ms")}
    kept = {key: row[key] for key in ("num_layers", "parameters", "bytes", "speed_up") if key in row}
    return {"name": name, "title": row["title"], **scores, **kept, **times}
