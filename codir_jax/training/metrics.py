"""Metrics on their way out: (sum, count) pairs of many steps become means, JSON lines and TensorBoard events."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.processes import whole
from codir_jax.processes.user_error import CannotWriteError, UserError
from codir_jax.training.state import TrainState

# Of a step that leaves out a non-finite update: (1, 1) where it did. In metrics.jsonl: how many in the whole run.
SKIPPED = "skipped_updates"


class NonFiniteError(UserError, FloatingPointError):
    """A loss or gradient became NaN or infinite; the message names step and term."""

    exit_status = 3


class MetricBuffer:
    """Metrics since the last flush. They stay on the device until they are read, so no step waits for the host.

    Args:
      pending: sums of a stopped run's unflushed steps, from `pending()` of its checkpoint.
      skipped: updates that the stopped run left out.
      max_skipped: how many a run may leave out (of a step made with `skips_non_finite`); 0: the first stops it.
      tell: prints a line.

    Attributes:
      skipped: updates left out so far.
    """

    def __init__(
        self,
        pending: dict[str, list[float]] | None = None,
        *,
        skipped: int = 0,
        max_skipped: int = 0,
        tell: Callable[[str], None] = print,
    ):
        self.skipped = skipped
        self._max_skipped, self._tell = max_skipped, tell
        self._steps: list[tuple[int, dict]] = []
        self._sums = {name: tuple(pair) for name, pair in (pending or {}).items()}

    def append(self, step: int, metrics: dict) -> None:
        """Keeps the (sum, count) pairs of a step without reading them."""
        self._steps.append((step, metrics))

    def pending(self) -> dict[str, list[float]]:
        """name -> [sum, count] since the last flush, to be checkpointed; steps that were left out are not in it.

        Raises:
          NonFiniteError: naming the first step and term that are not finite.
        """
        steps, self._steps = self._steps, []
        for (step, _), metrics in zip(steps, jax.device_get([m for _, m in steps]), strict=True):
            was_skipped = metrics.pop(SKIPPED, (0.0, 0.0))[0] > 0
            # A term of the loss says more than the loss or the gradient that it spoils.
            terms_first = sorted(metrics, key=lambda name: not name.endswith("_loss"))
            broken = next((name for name in terms_first if not math.isfinite(metrics[name][0])), None)
            if broken or was_skipped:
                self._count_non_finite(step, broken, metrics, was_skipped)
                continue
            for name, (total, count) in metrics.items():
                # One after the other in float64, so that a resumed run adds up to the same bits.
                old_total, old_count = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = (old_total + float(total), old_count + float(count))
        return {name: list(pair) for name, pair in self._sums.items()}

    def flush(self) -> dict[str, float]:
        """Mean of each metric since the last flush, and what was skipped in the whole run; raises like `pending`."""
        sums = self.pending()
        self._sums = {}
        means = {name: total / count for name, (total, count) in sums.items() if count > 0}
        return {**means, SKIPPED: float(self.skipped)} if self._max_skipped else means

    def _count_non_finite(self, step: int, broken: str | None, metrics: dict, was_skipped: bool) -> None:
        terms = ", ".join(f"{name} {float(t) / max(float(c), 1):.4g}" for name, (t, c) in metrics.items())
        what = (
            f"{broken} is {float(metrics[broken][0])} at step {step} ({terms})" if broken else f"step {step} ({terms})"
        )
        if was_skipped and self.skipped < self._max_skipped:
            self.skipped += 1
            self._tell(f"update left out, {self.skipped} of train.max_skipped_updates={self._max_skipped}: {what}")
            return
        already = f"; {self.skipped} updates were left out before" if self.skipped else ""
        raise NonFiniteError(
            f"{what}{already}; lower optimizer.learning_rate or set optimizer.clip_norm; the last checkpoint is intact"
        )


class MetricWriter:
    """Appends to `metrics.jsonl` and, from the same values, TensorBoard events.

    On resume, lines after the restored step are dropped, so that the file has neither gaps nor doubles.
    """

    def __init__(self, workdir: Path, start_step: int):
        self._path = Path(workdir) / "metrics.jsonl"
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        lines = text.splitlines()
        kept = [line for line in lines if _is_at_most(line, start_step)]
        if text and (kept != lines or not text.endswith("\n")):
            whole.write_text(self._path, "".join(f"{line}\n" for line in kept))
        from tensorboardX import SummaryWriter  # imported late: it takes half a second

        self._board = SummaryWriter(logdir=str(Path(workdir) / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line {"step", ...}; NaN is written as null, which JSON can hold.

        Raises:
          OSError: it cannot be written.
        """
        line = {"step": step, **{k: (v if math.isfinite(v) else None) for k, v in values.items()}}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:
            raise CannotWriteError(
                f"the metrics of step {step} cannot be written to {self._path.parent} ({error})"
            ) from error

    def close(self) -> None:
        """Flushes the events; what they could not take is in metrics.jsonl."""
        try:
            self._board.close()
        except OSError:
            # It would try again when the program ends, and print a traceback for each of its parts.
            events = self._board.file_writer.event_writer
            events._closed = True
            events._worker.stop()
            with contextlib.suppress(OSError):
                events._ev_writer._py_recordio_writer.close()


class SilentWriter:
    """Takes what a MetricWriter takes and writes nothing: of the processes of a run only the first writes."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def require_finite(state: TrainState, step: int) -> None:
    """Refuses a state with NaN or infinity, which finite losses can lead to: an update that is too large.

    Raises:
      NonFiniteError: naming the step.
    """
    if not _is_finite(jax.tree.leaves((state.params, state.opt_state))):
        raise NonFiniteError(
            f"parameters or moments are not finite after step {step}; they are not saved, the last checkpoint is "
            "intact; lower optimizer.learning_rate or set optimizer.clip_norm"
        )


def _is_finite(leaves: list[jax.Array]) -> bool:
    """On CPUs by numpy, as a program over hundreds of arrays takes longer to compile than the look at them."""
    devices = {device for leaf in leaves for device in leaf.devices()}
    if all(device.platform == "cpu" for device in devices) and all(leaf.is_fully_addressable for leaf in leaves):
        return all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves)
    return bool(_is_finite_on_devices(leaves))


@jax.jit
def _is_finite_on_devices(leaves: list[jax.Array]) -> jax.Array:
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _is_at_most(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (json.JSONDecodeError, KeyError):
        return False  # the half-written line of a run that was killed
