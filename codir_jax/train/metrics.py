"""Metrics on their way out: (sum, count) pairs of many steps become means, JSON lines and TensorBoard events."""

import json
import math
from pathlib import Path

import jax


class NonFiniteError(FloatingPointError):
    """A loss or gradient became NaN or infinite; the message names step and term."""


class MetricBuffer:
    """Metrics since the last flush. They stay on the device until they are read, so no step waits for the host.

    Args:
      pending: sums of a stopped run's unflushed steps, from `pending()` of its checkpoint.
    """

    def __init__(self, pending: dict[str, list[float]] | None = None):
        self._steps: list[tuple[int, dict]] = []
        self._sums = {name: tuple(pair) for name, pair in (pending or {}).items()}

    def append(self, step: int, metrics: dict) -> None:
        """Keeps the (sum, count) pairs of a step without reading them."""
        self._steps.append((step, metrics))

    def pending(self) -> dict[str, list[float]]:
        """name -> [sum, count] since the last flush, to be checkpointed.

        Raises:
          NonFiniteError: naming the first step and term that are not finite.
        """
        steps, self._steps = self._steps, []
        for (step, _), metrics in zip(steps, jax.device_get([m for _, m in steps]), strict=True):
            for name, (total, count) in metrics.items():
                if not math.isfinite(total):
                    terms = ", ".join(f"{n} {float(t) / max(float(c), 1):.4g}" for n, (t, c) in metrics.items())
                    raise NonFiniteError(
                        f"{name} is {float(total)} at step {step} ({terms}); lower optimizer.learning_rate or set "
                        "optimizer.clip_norm; the last checkpoint is intact"
                    )
                # One after the other in float64, so that a resumed run adds up to the same bits.
                old_total, old_count = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = (old_total + float(total), old_count + float(count))
        return {name: list(pair) for name, pair in self._sums.items()}

    def flush(self) -> dict[str, float]:
        """Mean of each metric since the last flush; raises like `pending`."""
        sums = self.pending()
        self._sums = {}
        return {name: total / count for name, (total, count) in sums.items() if count > 0}


class MetricWriter:
    """Appends to `metrics.jsonl` and, from the same values, TensorBoard events.

    On resume, lines after the restored step are dropped, so that the file has neither gaps nor doubles.
    """

    def __init__(self, workdir: Path, start_step: int):
        self._path = Path(workdir) / "metrics.jsonl"
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in lines if _is_at_most(line, start_step)]
        if kept != lines:
            self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        from tensorboardX import SummaryWriter  # imported late: it takes half a second

        self._board = SummaryWriter(logdir=str(Path(workdir) / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line {"step", ...}; NaN is written as null, which JSON can hold."""
        line = {"step": step, **{k: (v if math.isfinite(v) else None) for k, v in values.items()}}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes the events."""
        self._board.close()


def _is_at_most(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (json.JSONDecodeError, KeyError):
        return False  # the half-written line of a run that was killed
