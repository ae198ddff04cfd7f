"""Many runs, one table: arms x tasks x seeds, each arm with the same number of trials, differences paired by seed.

An arm is `NAME CONFIG [KEY=VALUE ...] [--search KEY=V1,V2 ...]`; {task} is filled in, in values also {seed}. `--search`
lists the trials of an arm (the product of its lists). They are compared on the search seeds, which are not among the
reported ones, by the mean of the primary dev metric, separately for every task; results.json says whether more or less
of it is better.
"""

import itertools
import math
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codir_jax.jobs import sweep_table, workers
from codir_jax.jobs.workers import Run
from codir_jax.processes import claims
from codir_jax.processes.console import say
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir as workdir_lib
from codir_jax.training.metrics import NonFiniteError

Overrides = tuple[tuple[str, str], ...]
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Arm(NamedTuple):
    """NAME, config path, fixed overrides and the trials of its search; without a search one trial of no overrides."""

    name: str
    config: str
    fixed: Overrides
    trials: tuple[Overrides, ...]


def sweep(
    output: str,
    tasks: Sequence[str],
    arms: Sequence[str],
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    search_seeds: Sequence[int] = (100,),
    baseline: str = "",
    metric: str = "",
    num_workers: int = 0,
    table_only: bool = False,
    overrides: Sequence[tuple[str, str]] = (),
) -> tuple[dict[str, Any], list[workers.Failure]]:
    """Runs what is not finished, writes table.md and table.json, and returns (table, failed runs).

    Each run is a workdir under `output`: what is finished is not run again, what was stopped goes on. A run that failed
    leaves its cell open. A trial that diverged has lost its search; a search that is unfinished for another reason has
    no winner, and the runs of its cell wait until the same call has finished it.

    Args:
      output: folder of all runs.
      tasks: put in the place of {task}.
      arms: see the module's docstring.
      seeds: that are reported. search_seeds: of the search.
      baseline: arm that the others are paired with; empty: the first.
      metric: dev metric to report; empty: the primary one.
      num_workers: runs at once; 0: one a device, or per two cores.
      table_only: the table of what is finished, and nothing is run.
      overrides: (dotted config key, text) of every arm; an arm's own come after them.

    Raises:
      UserError: arms, tasks, seeds or configs that cannot be, or workdirs of other configs, before anything is run.

    Example:
      >>> table, failed = sweep("runs/sweep", ["rte"], ["plain configs/codir/finetune_distill.py:{task},finetune"])
    """
    claims.check(output, claims.SWEEP, "--output")
    parsed = [parse_arm(text) for text in arms]
    baseline = baseline or next((arm.name for arm in parsed), "")
    _check(parsed, tasks, seeds, search_seeds, baseline, overrides)
    folder, failures = Path(output), []
    cells = list(itertools.product(tasks, parsed))

    def runs(task: str, arm: Arm, trial: Overrides, of_seeds: Sequence[int], name: str) -> list[Run]:
        place = folder / task / arm.name
        return [make_run(arm, task, trial, seed, overrides, place / f"{name}seed_{seed}") for seed in of_seeds]

    search = {
        (task, arm.name): [
            runs(task, arm, trial, search_seeds, f"search_{number}_")
            for number, trial in enumerate(arm.trials if len(arm.trials) > 1 else ())
        ]
        for task, arm in cells
    }
    searching = [run for trials in search.values() for of_trial in trials for run in of_trial]
    for task, arm in cells:
        ways = [runs(task, arm, trial, seeds, "") for trial in arm.trials]
        if not table_only:
            _check_configs([of_trial[0] for of_trial in ways])
        for of_seed in zip(*ways, strict=True):
            _check_workdir(of_seed)
    for run in searching:
        _check_workdir([run])
    if table_only and not any(folder.rglob("results.json")):
        raise UserError(f"--table_only: nothing is finished in {folder}; is --output right?")
    claims.claim(folder, claims.SWEEP, "--output")
    if searching and not table_only:
        failures += workers.run_all(searching, num_workers)
    unfinished = {run.workdir for run in searching if not workers.is_finished(run.workdir)}
    diverged = {failure.workdir for failure in failures if failure.status == NonFiniteError.exit_status}
    chosen, searched, final = {}, {}, {}
    for task, arm in cells:
        cell = task, arm.name
        chosen[cell], searched[cell] = choose(arm, search[cell], unfinished if table_only else diverged)
        final[cell] = [] if chosen[cell] is None else runs(task, arm, chosen[cell], seeds, "")
        for run in final[cell]:
            _check_workdir([run])
        if chosen[cell] is None and not table_only:
            say(f"{task}, {arm.name}: its search is not finished, so its runs wait; the same command goes on")
    if not table_only:
        # Seed by seed over all arms, so that a stopped sweep has whole pairs.
        ordered = [final[task, arm.name][i] for i in range(len(seeds)) for task, arm in cells if final[task, arm.name]]
        failures += workers.run_all(ordered, num_workers)
    table = sweep_table.make(parsed, tasks, final, chosen, searched, baseline, metric)
    claims.claim(folder, claims.SWEEP, "--output")
    sweep_table.write(folder, table, baseline)
    return table, failures


def parse_arm(text: str) -> Arm:
    """The arm of a command-line text."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--arm={text!r} cannot be read: {error}") from error
    if len(words) < 2:
        raise UserError(f"--arm={text!r}: expected 'NAME CONFIG [KEY=VALUE ...] [--search KEY=V1,V2 ...]'")
    name, config, *rest = words
    fixed, lists = [], []
    while rest:
        word = rest.pop(0)
        is_search = word == "--search"
        key, equals, value = (rest.pop(0) if is_search and rest else word).partition("=")
        if not equals:
            raise UserError(f"--arm={text!r}: {word!r} is not KEY=VALUE")
        if is_search:
            lists.append([(key, one) for one in value.split(",")])
        else:
            fixed.append((key, value))
    return Arm(name, config, tuple(fixed), tuple(itertools.product(*lists)))


def make_run(arm: Arm, task: str, trial: Overrides, seed: int, shared, workdir: Path) -> Run:
    """The run of one arm, task, trial and seed. The arm's own overrides come after the shared ones."""
    values = (*shared, *arm.fixed, *trial)
    filled = [(key, value.replace("{task}", task).replace("{seed}", str(seed))) for key, value in values]
    return Run(arm.config.replace("{task}", task), (*filled, ("seed", str(seed))), str(workdir))


def choose(
    arm: Arm, search: Sequence[Sequence[Run]], lost: Collection[str] = ()
) -> tuple[Overrides | None, dict[str, float]]:
    """(overrides of the best trial, every finished trial's mean score); None as long as there is no best one.

    Args:
      search: for every trial its runs on the search seeds.
      lost: workdirs whose runs give no score any more, so that their trials have lost. Any other unfinished run may yet
        be the best: there is no winner without it.

    Raises:
      UserError: results that do not say in which direction their metric is better.
    """
    if len(arm.trials) <= 1:
        return arm.trials[0], {}
    scores, primary, is_open = {}, None, False
    for number, runs in enumerate(search):
        found = [workdir_lib.read_results(Path(run.workdir)) for run in runs]
        is_open |= any(not results and run.workdir not in lost for results, run in zip(found, runs, strict=True))
        if all(found):
            primary = sweep_table.primary(found[0])
            of_runs = [sweep_table.score(each, primary, run.workdir) for each, run in zip(found, runs, strict=True)]
            scores[number] = sum(of_runs) / len(of_runs)
    told = {" ".join(f"{k}={v}" for k, v in arm.trials[n]): round(score, 4) for n, score in scores.items()}
    finite = {number: score for number, score in scores.items() if math.isfinite(score)}  # max and min misplace a nan
    if is_open or not finite:
        return None, told
    return arm.trials[(max if primary.higher_is_better else min)(finite, key=finite.get)], told


def _check(arms: Sequence[Arm], tasks, seeds, search_seeds, baseline: str, overrides) -> None:
    """Refuses names that are no file names, unequal budgets and seeds that are searched and reported."""
    names = [arm.name for arm in arms]
    for flag, given in (("--arm", arms), ("--tasks", tasks), ("--seeds", seeds), ("--search_seeds", search_seeds)):
        if not given:
            raise UserError(f"{flag} is empty; give at least one")
        if len(set(given)) < len(given) and flag != "--arm":
            raise UserError(f"{flag} has one twice: {', '.join(map(str, given))}")
    if baseline not in names or len(set(names)) < len(names):
        raise UserError(f"--baseline={baseline!r} must be one of the arms, each named once: {names}")
    for flag, given in (("--arm", names), ("--tasks", tasks)):
        for name in given:
            if not _NAME.fullmatch(name) or name in sweep_table.FILES:
                raise UserError(
                    f"{flag}: {name!r} becomes a folder; use letters, digits, '_', '-' and '.', not at the beginning, "
                    "and at most 100 of them"
                )
    lists = [overrides, *(arm.fixed for arm in arms), *(trial for arm in arms for trial in arm.trials)]
    if any(key == "seed" for values in lists for key, _ in values):
        raise UserError("seed is set by --seeds and --search_seeds, the same for every arm; leave out seed=")
    counts = {arm.name: len(arm.trials) for arm in arms}
    if len(set(counts.values())) > 1:
        raise UserError(f"every arm needs the same number of trials, got {counts}")
    if shared := set(seeds) & set(search_seeds):
        raise UserError(f"--search_seeds {sorted(shared)} must not be among the reported --seeds {list(seeds)}")


def _check_configs(runs: Sequence[Run]) -> None:
    """Refuses what no run can be made of."""
    for run in runs:
        stage_config.check(_config(run))


def _check_workdir(ways: Sequence[Run]) -> None:
    """Refuses a workdir that holds a run of another config.

    Args:
      ways: the runs that it may hold: one, or of a search that is not decided yet one for every trial.
    """
    workdir = Path(ways[0].workdir)
    claims.check(workdir, claims.RUN, "--output")
    problems = []
    for run in ways if workdir_lib.has_progress(workdir) else ():
        try:
            return workdir_lib.refuse_other(_config(run), workdir, "--output")
        except UserError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def _config(run: Run):
    """The config that the run's workdir is claimed with."""
    config = stage_config.load(run.config, run.overrides)
    if not config.teacher.path and config.teacher.config:  # a teacher that `jobs.train` makes first
        config.teacher.path = str(Path(run.workdir) / "teacher")
    return config
