"""The whole job: a recipe run on the user's data. Its stages, costs, export, one table, a short report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.convert.folder import model_folder
from codir_jax.jobs import chosen, sources
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs.recipe import TEACHER, Recipe
from codir_jax.jobs.sources import Source
from codir_jax.jobs.train import train as train_stage
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir

MAX_DIFFERENCES_TOLD = 10


def compress(
    teacher: str = "",
    train: str = "",
    dev: str = "",
    *,
    output: str,
    text: str = "",
    layers: int = 0,
    test: str = "",
    unlabelled: str = "",
    text_column: str = "",
    text_pair_column: str = "",
    label_column: str = "",
    regression: bool = False,
    task: str = "",
    glue_dir: str = "",
    demo: bool = False,
    compare: Sequence[str] = (),
    export: str = chosen.BEST,
    recipe: str = "codir",
    seed: int = 0,
    overrides: Sequence[tuple[str, str]] = (),
    teacher_overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Compresses `teacher` and returns what `results.json` holds; stopped, the same call goes on.

    What is finished in the folder stays: a call with more to compare trains that alone.

    Args:
      teacher: Hugging Face folder, workdir or hub name of the model that the job is given. A teacher without a trained
        head for the task is trained first. Empty, with `text` or `demo`: a small one is made of nothing (and with
        `text` a tokenizer).
      train, dev, test, unlabelled: own files, or a GLUE `task` (read from `glue_dir`, else downloaded), or `demo`.
      text: running text in their place (`data.sources`: files, folders, globs, comma separated): a masked language
        model is compressed, for any task later.
      output: folder of the job: one folder a stage, export/, report.md, report.png, results.json.
      layers: of the student; 0 is half of the teacher's.
      text_column, text_pair_column, label_column, regression: of own files; empty: as the data set has them.
      compare: baselines of the recipe to train as well, names or a text with commas.
      export: what becomes export/: "best" on dev of what is compared, or its name.
      recipe: name of a folder in configs/.
      seed: of every stage.
      overrides, teacher_overrides: (dotted config key, text) of all stages but the teacher's, and of that. A key that
        begins with the name of a stage holds for it alone. Those of `data` hold for the teacher too, so that it is not
        trained on what the students are judged by.

    Raises:
      UserError: before anything is trained.

    Example:
      >>> codir_jax.compress("roberta-base", "train.tsv", "dev.tsv", layers=6, output="runs/mine")["export"]
      'runs/mine/export'
      >>> codir_jax.compress("roberta-base", text="books/*.txt", layers=6, output="runs/any_task")["export"]
      'runs/any_task/export'
    """
    teacher, compare = str(teacher), compare.split(",") if isinstance(compare, str) else compare
    source = sources.source_of(locals())
    if not output:
        raise UserError("--output is empty; name the folder of the job")
    found = recipe_lib.load(recipe, source.name if teacher else f"{source.name},scratch")
    if found.needs_dev and not source.has_dev:
        raise UserError("--dev is empty; the student is chosen and reported by a dev file")
    job = Job(found, source, Path(output), given=teacher, compare=compare, export=export, layers=layers, seed=seed)
    return job.run(overrides, teacher_overrides)


class Job:
    """A recipe on a source, in a folder; the other arguments are as of `compress`."""

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        folder: Path,
        *,
        given: str = "",
        compare: Sequence[str] = (),
        export: str = chosen.BEST,
        layers: int = 0,
        seed: int = 0,
    ):
        self.recipe, self.source, self.folder, self.given = recipe, source, folder, given
        self.layers, self.seed, self.export = layers, seed, export
        self.before = _saved_settings(folder)
        compared_before = [name for name in self.before.get("stages", ()) if name in recipe.baselines]
        self.stages = recipe.chosen([*compare, *compared_before])
        chosen.check(export, self.stages)

    def run(self, overrides, teacher_overrides) -> dict[str, Any]:
        """Runs what is not finished, and returns the results.

        Raises:
          UserError: what can be refused before the first stage is trained; the job's folder is not made then.
        """

        def configs(fits: bool) -> dict[str, ConfigDict]:
            return self._configs(fits, overrides, teacher_overrides)

        planned = configs(fits=False)
        for config in planned.values():
            stage_config.check(config)
        learns_from = [stage.name for stage in self.stages if "tokenizer" in stage.placeholders()]
        fits = False if learns_from else self._refuse(planned)
        if (done := self._claim(planned)) is not None:
            return done
        if learns_from:
            sources.make_tokenizer(planned[learns_from[0]], self.folder / "tokenizer")
            fits = self._refuse(planned)
        results = {}
        for name, config in configs(fits).items():
            console.say(f"== {self._title(name)} -> {self.folder / name}")
            results[name] = train_stage(config, self.folder / name)
        return self._report(configs(fits)[self.recipe.main], results, fits)

    def _configs(self, fits: bool, overrides, teacher_overrides) -> dict[str, ConfigDict]:
        """Name -> config of every stage that is trained; where the given model `fits`, it is the teacher as it is."""
        values = {
            **{stage.name: str(self.folder / stage.name) for stage in self.recipe.stages},
            "given": self.given,
            "trains_teacher": str(not fits),
            "tokenizer": str(self.folder / "tokenizer"),
            "layers": str(self.layers),
            "job": str(self.folder),
        }
        if fits:
            values[TEACHER] = self.given
        shared, changes = [("seed", str(self.seed)), *self.source.overrides], (overrides, teacher_overrides)
        trained = [stage for stage in self.stages if stage.config and not (fits and stage.name == TEACHER)]
        return {
            stage.name: recipe_lib.config_of(stage, self.recipe.stages, values, shared, *changes) for stage in trained
        }

    def _refuse(self, planned: dict[str, ConfigDict]) -> bool:
        """Refuses a job that cannot be; whether the given model is a teacher as it is."""
        from codir_jax.jobs import refusals

        tasks = refusals.check(planned, self.folder)
        if not (self.given and TEACHER in planned):
            return False
        return refusals.fits(tasks[self.recipe.main], self.given)

    def _title(self, name: str) -> str:
        return next(stage.title for stage in self.stages if stage.name == name)

    def _claim(self, planned: dict[str, ConfigDict]) -> dict[str, Any] | None:
        """Makes the job's folder; where the same job is finished, its results, printed again.

        Raises:
          UserError: the folder holds a job with other settings; the first keys that differ are named.
        """
        folder = self.folder
        settings = {"given": self.given, "stages": {name: config.to_dict() for name, config in planned.items()}}
        settings = json.loads(json.dumps(settings))
        if differing := _differences(settings, self.before):
            more = len(differing) - MAX_DIFFERENCES_TOLD
            raise UserError(
                f"{folder} holds a job with other settings; choose another --output, or set them as they were:\n  "
                + "\n  ".join(differing[:MAX_DIFFERENCES_TOLD])
                + (f"\n  ... and {more} more" if more > 0 else "")
            )
        folder.mkdir(parents=True, exist_ok=True)
        workdir.write_json(folder / "job.json", settings)
        results = folder / "results.json"
        if not results.exists():
            return None
        done = json.loads(results.read_text(encoding="utf-8"))
        new = [stage.title for stage in self.stages if stage.in_table and stage.name not in done["models"]]
        if new or done.get("export_wanted") != self.export:
            console.say(
                f"{folder}: goes on with {', '.join(new) or f'--export={self.export}'}; what is finished stays\n"
            )
            return None
        console.say(f"{folder}: already finished; remove the folder to run it again\n")
        print_results(done, folder)
        return done

    def _report(self, config: ConfigDict, stages: dict[str, dict[str, Any]], fits: bool) -> dict[str, Any]:
        """Writes and prints the results.

        Args:
          config: of the main stage. stages: name -> results of a stage that was trained.
        """
        from codir_jax.jobs import export, measure, report

        console.say("== measuring cost")
        main, folder = stages[self.recipe.main], self.folder
        shown = [stage for stage in self.stages if stage.in_table]
        models = {stage.name: self._model(stage, fits) for stage in shown}
        scores = {name: stage["dev"] for name, stage in stages.items()}
        if "teacher_dev" in main:
            scores[TEACHER] = main["teacher_dev"]
        rows = measure.measure(models, config, scores)
        metric = next(metric for metric in main["metrics"] if metric["name"] == main["primary_metric"])
        exported, why = chosen.choose(self.export, self.stages, scores, metric, self.recipe.main)
        console.say(f"== exporting {why}")
        results = {
            "recipe": self.recipe.title,
            "task": config.data.get("sources") or main["task"],
            "primary_metric": main["primary_metric"],
            "metrics": main["metrics"],
            "main": self.recipe.main,
            "models": {
                stage.name: {"title": stage.title, "folder": models[stage.name], **rows[stage.name]} for stage in shown
            },
            "export": str(folder / "export"),
            "export_wanted": self.export,
            "exported": exported,
            "why_exported": why,
            "parity": export.export_model(str(folder / exported), str(folder / "export")),
            "seconds": sum(stage["seconds"] for stage in stages.values()),
            "seed": config.seed,
            **workdir.environment(),
        }
        report.write(folder, results)
        workdir.write_json(folder / "results.json", results)
        print_results(results, folder)
        return results

    def _model(self, stage, fits: bool) -> str:
        """The folder with the model of a stage."""
        if not stage.config or (fits and stage.name == TEACHER):
            return model_folder(self.given, "--teacher")
        return str(self.folder / stage.name / "best")


def _saved_settings(folder: Path) -> dict[str, Any]:
    """What `job.json` of an earlier call holds, of stages of which something was trained; {} where none was."""
    saved = folder / "job.json"
    settings = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else {"stages": {}}
    begun = {name: config for name, config in settings["stages"].items() if workdir.has_progress(folder / name)}
    return {**settings, "stages": begun} if begun else {}


def _differences(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """A line for each key in which two jobs differ, with the stages that it is of; further stages are no difference."""
    if not before:
        return []
    given = [f"--teacher: {now['given']!r} here, {before['given']!r} there"] if now["given"] != before["given"] else []
    stages = ConfigDict(now["stages"]), ConfigDict(before["stages"])
    if missing := [name for name in before["stages"] if name not in now["stages"]]:
        given.append(f"stages: {', '.join(missing)} there, and not here; is it another --recipe?")
    of_stages: dict[str, list[str]] = {}
    for name in before["stages"]:
        if name in now["stages"]:
            for line in config_lib.differences(*(config[name] for config in stages)):
                if not line.startswith(workdir.NOT_BINDING):
                    of_stages.setdefault(line, []).append(name)
    return given + [f"{line} ({', '.join(names)})" for line, names in of_stages.items()]


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Prints the table and where things lie."""
    from codir_jax.jobs.report import screen_table

    print(f"{screen_table(results)}\nexported: {results['why_exported']}\n{results['parity']}")
    print(f"report: {folder / 'report.md'}   export: {results['export']}", flush=True)
