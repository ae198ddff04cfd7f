"""The same job with several seeds: where the stages of each lie, and what the seeds together say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codir_jax.evaluation import statistics
from codir_jax.processes.user_error import UserError

_FOLDER = "seeds"


def of_job(first: int, num_seeds: int, folder: Path, overrides: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """The seeds of a job, ascending from `first`: as many as are asked for, or were asked for before in its folder.

    Raises:
      UserError: there are none, or a config's own seed would hold for all of them.
    """
    for flag, value in (("seed", first), ("seeds", num_seeds)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"--{flag}={value!r}: expected a whole number")
    if num_seeds < 1:
        raise UserError(f"--seeds={num_seeds} must be 1 or more: so many seeds, from --seed upwards")
    before = [int(path.name) - first + 1 for path in (folder / _FOLDER).glob("[0-9]*") if path.name.isdecimal()]
    seeds = tuple(range(first, first + max(num_seeds, *before, 1)))
    if len(seeds) > 1 and any(key.rpartition(".")[2] == "seed" for key, _ in overrides):
        raise UserError("--config.seed and --seeds both say which seeds there are; use --seed and --seeds")
    return seeds


def place(folder: Path, seed: int, first: int) -> Path:
    """The folder of a seed's stages: of the first seed that of the job."""
    return folder if seed == first else folder / _FOLDER / str(seed)


def table(titles: Mapping[str, str], scores: Mapping[str, Sequence[float]], baseline: str) -> dict[str, dict[str, Any]]:
    """Name -> {"title", "scores", "mean", "low", "high" (95 %), "difference" to the baseline, "told" in words}.

    Args:
      titles: name of a stage -> title. scores: name -> one score a seed, all of the same seeds, two at least.
      baseline: name that the others are compared with; "" is none.
    """
    rows = {}
    for name, own in scores.items():
        low, high = statistics.interval(own)
        mean = statistics.summary(own).mean
        rows[name] = {"title": titles[name], "scores": list(own), "mean": mean, "low": low, "high": high}
        told = f"mean {mean:.4f}, 95 % interval {low:.4f} to {high:.4f}"
        if baseline in scores and name != baseline:
            gap = rows[name]["difference"] = statistics.paired_difference(own, scores[baseline])._asdict()
            told += f"; minus plain training {gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
        rows[name]["told"] = told
    return rows
