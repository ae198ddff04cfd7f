"""Which of the models that a job compares is exported, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from codir_jax.jobs.recipe import TEACHER, Recipe, StageSpec
from codir_jax.processes.user_error import UserError

BEST = "best"
# Folder and row of what is exported with the words of the train texts alone.
PRUNED = "pruned"
# Of what the card of an export tells, what a finished job is exported anew for.
TOLD_IN_CARD = ("license", "language")


def candidates(stages: Sequence[StageSpec]) -> tuple[StageSpec, ...]:
    """What of a job can be exported: what it trains and compares, but for the teacher."""
    return tuple(stage for stage in stages if stage.config and stage.in_table and stage.name != TEACHER)


def titles(recipe: Recipe, stages: Sequence[StageSpec]) -> dict[str, str]:
    """Name -> title of what of a job can be exported; of a recipe with several exports its arms."""
    known = {stage.name: stage.title for stage in candidates(stages)}
    if not recipe.exports:
        return known
    arms = {arm: names for arm, names in recipe.groups.items() if known.keys() >= set(names)}
    return {arm: known[names[0]].removeprefix(f"{recipe.exports[0]}: ") for arm, names in arms.items()}


def check(wanted: str, titles: Mapping[str, str]) -> None:
    """Refuses an --export that is no part of the job.

    Raises:
      UserError: with those that are.
    """
    if wanted not in (BEST, *titles):
        raise UserError(
            f"--export={wanted!r} is not compared in this job; known: {', '.join((BEST, *titles))} (--compare=NAME "
            "adds a baseline)"
        )


def choose(
    wanted: str,
    titles: Mapping[str, str],
    scores: Mapping[str, Mapping[str, float]],
    metric: Mapping[str, Any],
    main: str,
    num_seeds: int = 1,
) -> tuple[str, str]:
    """(name of what is exported, why).

    Args:
      wanted: "best" on dev, of equals the main one, or a name.
      titles: of what can be exported. scores: name -> metrics on dev; {} without a dev file.
      metric: `name` and `higher_is_better` of the primary metric.
      main: name of what is exported where nothing can be compared.
      num_seeds: of which the scores are means.
    """
    key, sign = metric["name"], 1 if metric["higher_is_better"] else -1
    judged = {name: scores[name][key] for name in titles if key in scores.get(name, {})}

    def told(name: str) -> str:
        return f"{titles[name]} ({key} {judged[name]:.4f})"

    if not judged:
        name = main if wanted == BEST else wanted
        return name, f"{titles[name]}, there is no dev file to choose by"
    ranked = sorted(judged, key=lambda name: (sign * judged[name], name == main), reverse=True)
    best = ranked[0]
    if wanted not in (BEST, best):
        return wanted, f"{told(wanted)}, as --export={wanted} says; the best on dev is {told(best)}"
    if len(ranked) == 1:
        return best, f"{told(best)}, the only student of the job"
    basis = "of one seed, so a difference of a few points may be noise"
    then = f"then {told(ranked[1])}; {basis if num_seeds == 1 else f'means of {num_seeds} seeds'}"
    return best, f"{told(best)}, the best on dev of {len(ranked)}, {then}"
