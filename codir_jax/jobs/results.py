"""What a job has found once its stages are trained: costs, answers, seeds, export; what `results.json` holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.convert.folder import model_folder
from codir_jax.convert.formats import contract
from codir_jax.jobs import (
    answers,
    arms,
    chosen,
    export,
    measure,
    over_seeds,
    own_data,
    pareto,
    pruned,
    served,
    then,
    verdict,
)
from codir_jax.jobs.recipe import TEACHER, Recipe, StageSpec
from codir_jax.processes import console
from codir_jax.stage import workdir
from codir_jax.stage.evaluate import evaluate
from codir_jax.tasks.contract import Task, task_module

# Rows of dev on which an export is compared with its source.
_NUM_COMPARED = 32

Stages = Mapping[str, Mapping[str, Any]]


def of_job(job, configs: Mapping[str, ConfigDict], trained: Mapping[int, Stages], fits: bool) -> dict[str, Any]:
    """Measures, judges and exports; what `results.json` holds.

    Args:
      job: a `work.Work`, all stages trained.
      configs: name -> config of a stage, of the first seed.
      trained: seed -> name of a stage -> its results. The first seed has them all, the others those of the students.
      fits: whether the given model is the teacher as it is.
    """
    console.say("== measuring cost")
    recipe, folder, first = job.recipe, job.folder, job.seeds[0]
    stages, config = trained[first], configs[recipe.main]
    main = stages[recipe.main]
    shown = [stage for stage in job.stages if stage.in_table]
    models = {stage.name: _model(job, stage, fits) for stage in shown}
    titles = {stage.name: stage.title for stage in shown}
    smaller = then.write(models[recipe.main], job.then, folder / "then")
    models |= {name: str(made.folder) for name, made in smaller.items()}
    for stage in (stage for stage in shown if stage.then):
        made = then.write(models[stage.name], [stage.then], folder / "then" / stage.name)
        models[stage.name] = str(made[stage.then].folder)
    titles |= {name: f"{titles[recipe.main]}, {name}" for name in smaller}
    scores = {name: stage["dev"] for name, stage in stages.items()}
    if "teacher_dev" in main:
        scores[TEACHER] = main["teacher_dev"]
    primary = main["metrics"][0]
    offered = _plain(recipe)
    baseline = next((name for name in offered if name in models), "")
    seeds = _over_seeds(job, trained, titles, primary["name"], baseline)
    means = {name: {primary["name"]: row["mean"]} for name, row in seeds.items()} or scores
    chosen_arm, why = _what_to_export(job, means, primary, stages)
    exported = recipe.arm(chosen_arm)[0]
    without_words = {}
    if job.prunes:
        place = folder / chosen.PRUNED
        without_words[chosen.PRUNED] = pruned.write(models[exported], folder / exported, configs[exported], place)
        models[chosen.PRUNED] = str(place / "best")
        titles[chosen.PRUNED] = f"{titles[exported]}, words of train"
    measured = measure.measure(models, config, scores, recipe.batch_size, configs, without_words)
    rows = {name: {"title": titles[name], "folder": models[name], **row} for name, row in measured.rows.items()}
    for name, made in smaller.items():
        rows[name] |= {"changed": made.changed, "parity": made.verdict}
    for name, facts in without_words.items():
        rows[name] |= facts
    for name, better in _dominators(recipe, rows, smaller, primary).items():
        rows[name]["dominated_by"] = better
    on_test = _on_test(job, rows, configs, titles, primary["name"], baseline) if seeds else {}
    told = None
    of_domains: dict[str, Any] = {}
    on_rows = {name: own for name, own in measured.answers.items() if measured.tasks[name] is measured.task}
    if on_rows:
        console.say("== comparing answers, and counting words")
        told = answers.compare(
            measured.task,
            on_rows,
            metric=primary["name"],
            teacher=TEACHER,
            student=exported if exported in on_rows else recipe.main,
            baseline=baseline if baseline in on_rows else "",
            batch_size=recipe.batch_size,
            seed=first,
        )
        _add_speed_up(told["bar"], rows, recipe.batch_size)
        if recipe.exports:
            if told["bar"]:  # the rows are those of the first domain
                told["bar"]["title"] = f"{recipe.exports[0]}: {told['bar']['title']}"
            titles_of_arms = chosen.titles(recipe, job.stages)
            of_domains = arms.compare(recipe, titles_of_arms, trained, measured, primary["name"], first)
    console.say(f"== exporting {why}")
    results = {
        "recipe": recipe.title,
        "given": job.given,
        "task": job.told.get("data") or config.data.get("sources") or _train_file(config) or main["task"],
        "num_examples": main.get("num_examples", {}),
        "primary_metric": main["primary_metric"],
        "metrics": main["metrics"],
        "main": recipe.main,
        "exports": list(recipe.exports),
        "baseline": baseline,
        "baseline_offered": next(iter(offered), ""),
        "then": list(job.then),
        "also": list(recipe.also),
        "latency_batch": recipe.batch_size,
        "models": rows,
        "answers": told,
        "arms": of_domains,
        "seeds": list(job.seeds),
        "over_seeds": seeds,
        "over_seeds_on_test": on_test,
        "export": str(folder / "export"),
        **{name: job.told.get(name, "") for name in chosen.TOLD_IN_CARD},
        "export_wanted": job.export,
        "exported": exported,
        "why_exported": why,
        "parity": _export(job, (chosen.PRUNED,) if job.prunes else recipe.arm(chosen_arm), rows, measured.tasks),
        "formats_wanted": list(job.formats),
        "test_path": job.source.test_path,
        "test_content": own_data.content(job.source.test_path),
        "formats": _served(job, configs.get(exported, config)),
        "price_per_hour": job.price_per_hour,
        "seconds": sum(stage["seconds"] for stages in trained.values() for stage in stages.values()),
        "seed": first,
        "command": job.command,
        **workdir.environment(),
    }
    return results | {"verdict": verdict.told(results)}


def _train_file(config: ConfigDict) -> str:
    return Path(config.data.get("train_path", "")).name


def _model(job, stage: StageSpec, fits: bool) -> str:
    """The folder with the model of a stage."""
    if not stage.config or (fits and stage.name == TEACHER):
        return model_folder(job.given, "--teacher")
    return str(job.folder / stage.name / "best")


def _plain(recipe: Recipe) -> list[str]:
    """The baselines of a recipe that train a whole model with the task's own loss alone; none where its main does."""

    def is_plain(stage: StageSpec) -> bool:
        config = config_lib.load(stage.config)
        is_whole = not config.compression.method and not stage.then
        return is_whole and config.objective.name == task_module(config.task.name).PLAIN_OBJECTIVE

    main = next(stage for stage in recipe.stages if stage.name == recipe.main)
    others = [stage for stage in recipe.stages if stage.name in recipe.baselines]
    return [] if is_plain(main) else [stage.name for stage in others if is_plain(stage)]


def _dominators(recipe: Recipe, rows, smaller, metric: Mapping[str, Any]) -> dict[str, str]:
    """`pareto.dominators`; models of several domains are compared within each."""
    of = {name: place for arm in recipe.groups.values() for name, place in zip(arm, recipe.exports, strict=True)}
    of |= {name: of.get(recipe.main, "") for name in smaller}
    found = {}
    for place in dict.fromkeys(of.get(name, "") for name in rows):
        found |= pareto.dominators({name: row for name, row in rows.items() if of.get(name, "") == place}, metric)
    return found


def _over_seeds(job, trained: Mapping[int, Stages], titles: Mapping[str, str], metric: str, baseline: str):
    """`over_seeds.table` of the students; {} of one seed, or without dev scores."""
    if len(job.seeds) < 2:
        return {}
    names = [stage.name for stage in chosen.candidates(job.stages)]
    scores = {name: [trained[seed][name]["dev"].get(metric) for seed in job.seeds] for name in names}
    return over_seeds.table(titles, {name: own for name, own in scores.items() if None not in own}, baseline)


def _on_test(job, rows, configs, titles: Mapping[str, str], metric: str, baseline: str):
    """The same on test, by which nothing was chosen; `rows` have those of the first seed. {} without a test set."""
    scores = {}
    for name in (stage.name for stage in chosen.candidates(job.stages)):
        own = rows.get(name, {}).get("test", {}).get(metric)
        if own is not None:
            config = configs[name].copy_and_resolve_references()
            config.student.dtype = "float32"  # as `measure` does
            places = (over_seeds.place(job.folder, seed, job.seeds[0]) / name for seed in job.seeds[1:])
            scores[name] = [own, *(evaluate(config, str(place), "test")[metric] for place in places)]
    return over_seeds.table(titles, scores, baseline)


def _add_speed_up(bar: dict[str, Any] | None, rows: Mapping[str, Mapping[str, Any]], batch_size: int) -> None:
    key, first = f"batch_{batch_size}_p50_ms", next(iter(rows.values()))
    if bar:
        bar["speed_up"] = first["latency"][key] / bar["latency"][key]


def _what_to_export(job, scores: Stages, metric: Mapping[str, Any], stages: Stages) -> tuple[str, str]:
    """(name of a stage or of an arm, why).

    An arm is judged by the mean over all dev rows of its stages: those of one alone are few.
    """
    recipe, titles, key = job.recipe, chosen.titles(job.recipe, job.stages), metric["name"]
    if not recipe.exports:
        return chosen.choose(job.export, titles, scores, metric, recipe.main, len(job.seeds))
    of_arms = {}
    for arm in titles:
        rows = {name: stages[name]["num_examples"]["dev"] for name in recipe.arm(arm)}
        of_arms[arm] = {key: float(np.average([scores[name][key] for name in rows], weights=list(rows.values())))}
    arm, why = chosen.choose(job.export, titles, of_arms, metric, next(iter(recipe.groups)), len(job.seeds))
    return arm, f"{len(recipe.exports)} models ({', '.join(recipe.exports)}): {why}"


def _export(job, names: Sequence[str], rows: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, Task]) -> str:
    """Exports a stage, or all of an arm; the verdicts in one sentence."""

    def write(name: str, folder: Path) -> str:
        told = {**job.told, "base_model": job.given, "test": rows[name].get("test")}
        dev = tasks[name].read_rows().get("dev") if hasattr(tasks[name], "read_rows") else None
        sample = dev.take(range(min(len(dev), _NUM_COMPARED))) if dev else None
        return export.export_model(str(job.folder / name), str(folder), job.formats, **told, sample=sample)

    if not job.recipe.exports:
        return write(names[0], job.folder / "export")
    places = dict(zip(job.recipe.exports, names, strict=True))
    return "; ".join(f"{place}: {write(name, job.folder / 'export' / place)}" for place, name in places.items())


def _served(job, config: ConfigDict) -> dict[str, Any]:
    """What the formats of the export cost, and their scores; {} without any, and of several exports."""
    folder = job.folder / "export"
    if job.recipe.exports or not (formats := contract.present(folder, job.formats)):
        return {}
    return served.of_data(str(folder), formats, config)
