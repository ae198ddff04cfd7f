"""The stages of a job in waves: those of a wave need nothing of each other and are trained at once, each in a process
of its own on a part of the machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from codir_jax.jobs import over_seeds, workers
from codir_jax.jobs.recipe import StageSpec
from codir_jax.jobs.workers import Run
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError


def of_stages(stages: Sequence[StageSpec]) -> list[list[str]]:
    """Names by wave: a stage is one wave after the last of those whose folder it names.

    Args:
      stages: in an order in which each names earlier ones only.
    """
    wave: dict[str, int] = {}
    for stage in stages:
        wave[stage.name] = 1 + max((wave[name] for name in stage.placeholders() if name in wave), default=-1)
    return [[name for name, own in wave.items() if own == i] for i in range(max(wave.values(), default=-1) + 1)]


def train(
    stages: Sequence[StageSpec], configs: Mapping[int, Mapping[str, ConfigDict]], folder: Path, num_workers: int
) -> None:
    """Trains what is not finished, wave by wave, of all seeds at once; log.txt in a stage's folder has what it prints.

    A wave of fewer runs than workers shares the whole machine among its runs.

    Args:
      configs: seed -> name -> config of a stage; of a stage that all seeds share in the first seed only.
      folder: of the job.
      num_workers: runs at once; 0: one a card, or one per two cores.

    Raises:
      UserError: stages failed; those beside them were trained to their end.
    """
    first, most = next(iter(configs)), num_workers or len(workers.places())
    for names in of_stages(stages):
        runs = [
            Run(of_seed[name], (), str(over_seeds.place(folder, seed, first) / name))
            for seed, of_seed in configs.items()
            for name in names
            if name in of_seed
        ]
        left = [run for run in runs if not workers.is_finished(run.workdir)]
        if not left:
            continue
        at_once = min(most, len(left))
        told = ", ".join(str(Path(run.workdir).relative_to(folder)) for run in left)
        console.say(f"== {told}: {at_once} at once, each tells its own {folder}/STAGE/log.txt")
        if failures := workers.run_all(left, at_once):
            raise UserError("\n".join(["stages failed; the same command goes on:", *map(str, failures)]))
