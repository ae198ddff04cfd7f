"""How cost grows: one size varied at a time, a step measured at each, as rows of a CSV and plots."""

import csv
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codir_jax.benchmark import exchange, memory
from codir_jax.benchmark import subject as subject_lib
from codir_jax.benchmark.bench import Request
from codir_jax.benchmark.subject import Subject
from codir_jax.benchmark.timing import spread_ms
from codir_jax.models import sizes as sizes_lib
from codir_jax.processes import claims, whole
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import placement

# name -> values of the axis.
SWEEPS: dict[str, tuple[int, ...]] = {
    "length": (16, 32, 64, 128, 256, 512),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128),
    "layers": (2, 4, 6, 8, 12),
    "negatives": (100, 400, 1600, 6400, 16384, 65536),
    "bank_rows": (10_000, 100_000, 1_000_000, 10_000_000),
    "devices": (1, 2, 4, 8),
}
COLUMNS = (
    "sweep",
    "value",
    "series",
    "step_ms_median",
    "step_ms_p5",
    "step_ms_p95",
    "sentences_per_second",
    "program_bytes",
    "state_bytes",
    "collectives",
    "collective_bytes",
    "skipped",
)
DEFAULTS = {"length": 64, "batch": 16}
SOFT_TARGETS = "soft targets alone"
# More negatives than examples of another class are drawn with replacement; the bank of this sweep is large enough.
_BANK_OF_NEGATIVES = 4 * max(SWEEPS["negatives"])
_MEMORY_SHARE = 0.8  # of what is free; the rest is for what the compiler does not count


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement: the subject's sizes, and what the plot calls its curve."""

    series: str
    live: bool
    objective: str = ""  # "" is the request's
    length: int = DEFAULTS["length"]
    batch: int = DEFAULTS["batch"]
    layers: int = 0  # of the teacher; 0 is as in the request's model
    negatives: int = 0  # 0 is the config's
    bank_rows: int = 0  # 0 is the number of texts


def run(request: Request, names: tuple[str, ...], folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures the sweeps and writes sweep.csv, a PNG each and one of all; {"rows": [...], "files": [...]}.

    Steps are `request.steps`, on random full-length texts of `request.fixed_length` (64) tokens in batches of
    `request.batch_size` (16), where these are not what is varied. A point that does not fit into memory is skipped,
    with its reason in the row.

    Raises:
      UserError: an unknown name.
    """
    unknown = [name for name in names if name not in SWEEPS]
    if unknown:
        raise UserError(f"--sweep has {unknown}; known: {', '.join(SWEEPS)}")
    if any(key == "teacher.path" for key, _ in request.overrides):
        raise UserError("a sweep varies the sizes of random weights: give --model, not teacher.path")
    claims.claim(folder, claims.BENCH, "--output")
    rows: list[dict[str, Any]] = []
    files = [folder / "sweep.csv"]
    for name in names:
        say(f"sweep over {name} ...")
        of_sweep = _devices(request) if name == "devices" else _points(request, name)
        for row in of_sweep:
            rows.append({**dict.fromkeys(COLUMNS, ""), "sweep": name, **row})
            say("  " + ", ".join(f"{key} {_short(value)}" for key, value in row.items()))
        write_csv(files[0], rows)  # after each sweep: what was measured is kept
        from codir_jax.benchmark import plots

        files.append(folder / f"sweep_{name}.png")
        plots.draw(name, [row for row in rows if row["sweep"] == name], files[-1], describe(request, name))
    if len(names) > 1:
        files.append(folder / "sweep.png")
        plots.draw_together(rows, files[-1])
    return {"rows": rows, "files": [str(path) for path in files]}


def describe(request: Request, name: str) -> str:
    """What stays as it is while `name` varies."""
    sizes = sizes_lib.named(request.model or "minilm")
    layers = "" if name == "layers" else f"{sizes.num_layers} x "
    parts = [f"teacher {layers}{sizes.hidden_size}"]
    if name != "length":
        parts.append(f"{request.fixed_length or DEFAULTS['length']} tokens")
    if name != "batch":
        parts.append(f"batch {request.batch_size or DEFAULTS['batch']}")
    if name == "negatives":
        parts.append(f"bank of {_BANK_OF_NEGATIVES:,} rows")
    parts.append("fake CPU devices" if name == "devices" else jax.devices()[0].device_kind)
    return ", ".join(parts)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """One line a measurement, COLUMNS first."""
    with whole.aside(path) as place, place.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def points(name: str, value: int, length: int, batch: int) -> list[Point]:
    """The curves of a sweep at one value of its axis."""
    sizes = {"length": length, "batch": batch}
    if name in ("length", "batch", "layers"):
        sizes[name] = value
        return [Point(series, live, **sizes) for series, live in (("live teacher", True), ("cached teacher", False))]
    if name == "negatives":
        sizes |= {"negatives": value, "bank_rows": _BANK_OF_NEGATIVES}
        return [
            Point("CoDIR, live teacher", True, **sizes),
            Point("CoDIR, cached teacher", False, **sizes),
            Point(f"{SOFT_TARGETS}, live teacher", True, "distill", length, batch),
            Point(f"{SOFT_TARGETS}, cached teacher", False, "distill", length, batch),
        ]
    return [Point("CoDIR, cached teacher", False, **sizes, bank_rows=value)]


def _points(request: Request, name: str) -> Iterator[dict[str, Any]]:
    length, batch = request.fixed_length or DEFAULTS["length"], request.batch_size or DEFAULTS["batch"]
    baselines: dict[Point, Runner] = {}  # do not change along the axis: compiled once
    for value in SWEEPS[name]:
        if name == "batch" and value % jax.device_count():
            yield {"value": value, "series": "all", "skipped": f"not divisible by {jax.device_count()} devices"}
            continue
        at_value = points(name, value, length, batch)
        runners = [baselines.get(point) or prepare(request, point) for point in at_value]
        baselines = {point: runner for point, runner in zip(at_value, runners, strict=True) if point.objective}
        for point, row in zip(at_value, take_turns(runners, request.steps), strict=True):
            yield {"value": value, "series": point.series, **row}


class Runner:
    """A compiled step with its state and batches.

    Attributes:
      row: bytes of the compiled program and of its state; or also "skipped": why it cannot run.
      batch_size: sentences of a step.
    """

    def __init__(self, row, batch_size, step=None, state=None, frozen=None, batches=()):
        self.row, self.batch_size = row, batch_size
        self._step, self._state, self._frozen, self._batches = step, state, frozen, batches

    def run(self, number: int) -> float:
        """Seconds of the step `number`."""
        batch = self._batches[number % len(self._batches)]
        start = time.perf_counter()
        self._state, _ = jax.block_until_ready(self._step(self._state, self._frozen, batch))
        return time.perf_counter() - start


def prepare(request: Request, point: Point) -> Runner:
    """The step of a point, compiled; with its state on the devices, where that fits into memory."""
    subject = make_subject(request, point)
    columns = {} if point.live else teacher_shaped(subject)
    abstract = subject.stage.abstract_state(live=point.live)
    batch = exchange.abstract_batch(subject, point.length, columns)
    compiled = subject.stage.initial_state.step(abstract).lower(*abstract, batch).compile()
    num_bytes, free = memory.needed(compiled), memory.available()
    row = {
        "program_bytes": num_bytes,
        "state_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract[0])),
    }
    if free is not None and num_bytes > _MEMORY_SHARE * free:
        why = f"needs {num_bytes / 2**30:.1f} GiB, allowed {_MEMORY_SHARE * free / 2**30:.1f} GiB"
        return Runner({**row, "skipped": why}, point.batch)
    state, frozen = subject.start(abstract, columns)
    hosts = subject.stage.feed.train_on_host(0, request.steps + 1, columns)
    batches = [placement.put_batch(host, subject.stage.feed.sharding) for host in hosts]
    return Runner(row, point.batch, compiled, state, frozen, jax.block_until_ready(batches))


def take_turns(runners: Sequence[Runner], num_steps: int) -> list[dict[str, Any]]:
    """The rows, with step times: one step of each in turn, so that what else the machine does slows all of them."""
    seconds: list[list[float]] = [[] for _ in runners]
    for number in range(num_steps + 1):
        for runner, times in zip(runners, seconds, strict=True):
            if "skipped" not in runner.row:
                times.append(runner.run(number))
    rows = []
    for runner, times in zip(runners, seconds, strict=True):
        row = dict(runner.row)
        if times:
            spread = spread_ms(times[1:])  # the first one warms up
            row |= {f"step_ms_{name}": value for name, value in spread.items()}
            row["sentences_per_second"] = 1e3 * runner.batch_size / spread["median"]
        rows.append(row)
    return rows


def make_subject(request: Request, point: Point) -> Subject:
    """The subject of a point: random weights, random full-length texts, just enough of them."""
    overrides = [*request.overrides, ("data.num_train_examples", str(point.batch * (request.steps + 1)))]
    overrides.append(("data.eval_batch_size", str(point.batch)))
    config = subject_lib.load_config(request.config, overrides, batch_size=point.batch, fixed_length=point.length)
    if point.objective:
        with config.unlocked():
            config.objective = subject_lib.default_objective(point.objective)
    if point.negatives:
        config.objective.negatives.num_negatives = point.negatives
    sizes = sizes_lib.named(request.model or "minilm")
    if point.layers:
        sizes = dataclasses.replace(sizes, num_layers=point.layers)
    return subject_lib.make(
        config, model=sizes, fixed_length=point.length, num_steps=request.steps + 1, bank_rows=point.bank_rows
    )


def teacher_shaped(subject: Subject) -> dict[str, np.ndarray]:
    """Random numbers of the shapes of the teacher's outputs on the train set: a step takes as long on them."""
    stage = subject.stage
    batch = exchange.abstract_batch(subject, subject.config.data.max_length)
    view = jax.eval_shape(stage.objective.teacher_view.rows, stage.teacher.params, batch)
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(stage.feed.num_train, *x.shape[1:])).astype(x.dtype) for name, x in view.items()}


def _devices(request: Request) -> Iterator[dict[str, Any]]:
    """Collectives of the compiled step on fake CPU devices, each number of them in a process of its own."""
    from codir_jax.benchmark.child import child_command, failure

    sizes = {
        "batch_size": request.batch_size or DEFAULTS["batch"],
        "fixed_length": request.fixed_length or DEFAULTS["length"],
    }
    asked = dataclasses.replace(request, sections=("collectives",), **sizes)
    for num_devices in SWEEPS["devices"]:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num_devices}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        child = subprocess.run(child_command(asked), env=environment, capture_output=True, text=True, check=False)
        if child.returncode:
            told = f"the measurement on {num_devices} devices failed:\n{child.stderr[-1000:]}"
            raise failure(child.returncode, told)
        section = json.loads(child.stdout.splitlines()[-1])["sections"]["collectives"]
        for kind, total in section["kinds"].items():
            yield {
                "value": num_devices,
                "series": kind,
                "collectives": total["count"],
                "collective_bytes": total["bytes"],
            }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
