"""The whole job: a recipe run on the user's data. Its stages, costs, export, one table, a short report."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from codir_jax.compression import methods
from codir_jax.convert.folder import find_folder
from codir_jax.jobs import chosen, over_seeds, own_data, pareto, sources
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs.command_line import command_of
from codir_jax.jobs.job import Job
from codir_jax.jobs.recipe import TEACHER, Recipe
from codir_jax.jobs.sources import Source
from codir_jax.jobs.train import train as train_stage
from codir_jax.processes import claims, console, whole
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage import workdir

MAX_DIFFERENCES_TOLD = 10


def compress(
    teacher: str = "",
    train: Any = "",
    dev: Any = "",
    *,
    output: str,
    text: str = "",
    layers: int = 0,
    test: Any = "",
    unlabelled: Any = "",
    text_column: str = "",
    text_pair_column: str = "",
    label_column: str = "",
    regression: bool = False,
    multi_label: bool = False,
    label_separator: str = "",
    task: str = "",
    glue_dir: str = "",
    domain_column: str = "",
    domains: Sequence[str] = (),
    demo: bool = False,
    compare: Sequence[str] = (),
    then: Sequence[str] = (),
    max_bytes: str = "",
    max_loss_percent: float | None = None,
    export: str = chosen.BEST,
    format: Sequence[str] = (),
    prune_vocabulary: bool = False,
    recipe: str = "codir",
    seed: int = 0,
    seeds: int = 1,
    price_per_hour: float | None = None,
    license: str = "",
    language: str = "",
    overrides: Sequence[tuple[str, str]] = (),
    teacher_overrides: Sequence[tuple[str, str]] = (),
    on_step: Callable[[str, int, dict[str, float]], None] | None = None,
    on_evaluation: Callable[[str, int, dict[str, float]], None] | None = None,
) -> Job:
    """Compresses `teacher` and returns the finished job; stopped, the same call goes on.

    What is finished in the folder stays: a call with more to compare, or with more seeds, trains that alone.

    Args:
      teacher: Hugging Face folder, workdir or hub name of the model that the job is given. A teacher without a trained
        head for the task is trained first. Empty, with `text` or `demo`: a small one is made of nothing (and with
        `text` a tokenizer).
      train, dev, test, unlabelled: own files, data sets of Hugging Face, lists, dicts or DataFrames, as
        `data/given_rows.py` tells; or a GLUE `task` (read from `glue_dir`, else downloaded), or `demo`. Without dev a
        tenth of train is set aside, stratified by class and drawn by the seed.
      text: running text in their place (`data.sources`: files, folders, globs, comma separated): a masked language
        model is compressed, for any task later.
      output: folder of the job: one folder a stage, export/, report.html, report.md, results.json.
      layers: of the student; 0 is half of the teacher's.
      text_column, text_pair_column, label_column, regression: of own files; empty: found by their names
        and what they hold, and told.
      multi_label: of own files: a text has any number of classes, names joined in a cell by `label_separator` (empty:
        that of | ; , which is in them, and told), or a list of names; nothing for a text of no class. Or
        label_column="a,b,c" are columns of 0 and 1, one a class.
      domain_column: of own files, for a recipe of domains. domains: those that get a student; empty: all.
      then: ways to make the trained model smaller at once, of `compression.methods`: "int8", "rank64+int4". Each is a
        row of the table and a folder in then/.
      max_bytes, max_loss_percent: "5MB"; so many percent of the first row's score: the model within the limit, of all
        rows, is copied to picked/: the best one that is small enough, or the smallest that is good enough.
      compare: baselines of the recipe to train as well, names or a text with commas.
      export: what becomes export/: "best" on dev of what is compared, or its name.
      format: of `convert.formats`, that export/ has beside its Hugging Face files: "onnx", "onnx-int8", "stablehlo".
      prune_vocabulary: what is exported keeps the words of the train texts alone, and is a row of the table.
      recipe: name of a folder in configs/.
      seed: of every stage. seeds: how many, from `seed` upwards: the students are trained with each of them, the
        teacher with the first; the table then has means and intervals.
      price_per_hour: of the machine, in any currency: the report then tells the cost of a million texts.
      license, language: of the exported model, for its card: "apache-2.0", "en"; empty: of `teacher`'s.
      overrides, teacher_overrides: (dotted config key, text) of all stages but the teacher's, and of that. A key that
        begins with the name of a stage holds for it alone. Those of `data` hold for the teacher too, so that it is not
        trained on what the students are judged by.
      on_step, on_evaluation: as of `train`, of every stage; its workdir is told.

    Raises:
      UserError: before anything is trained.

    Example:
      >>> codir_jax.compress("roberta-base", "train.tsv", "dev.tsv", layers=6, output="runs/mine")["export"]
      'runs/mine/export'
      >>> codir_jax.compress("roberta-base", text="books/*.txt", layers=6, output="runs/any_task")["export"]
      'runs/any_task/export'
    """
    arguments = dict(locals())
    claims.check(output, claims.JOB, "--output")
    teacher, compare = str(teacher), compare.split(",") if isinstance(compare, str) else compare
    limit = pareto.Limit(max_bytes, max_loss_percent)
    flags = own_data.as_files(sources.with_overrides(locals(), overrides), Path(output))
    if flags["train"] and domain_column:
        flags = own_data.complete(flags, Path(output), seed)
    source = sources.source_of(flags)
    words = [source.name, *(["scratch"] if not teacher else []), *sources.domain_words(source, domain_column, domains)]
    found = recipe_lib.load(recipe, ",".join(words))
    if found.needs_dev and source.name == "own" and not domain_column:  # else its flags are complete
        source = sources.source_of(own_data.complete(flags, Path(output), seed))
    work = Work(
        found,
        source,
        Path(output),
        given=teacher,
        compare=compare,
        then=then,
        export=export,
        formats=format,
        prunes=prune_vocabulary,
        layers=layers,
        seeds=over_seeds.of_job(seed, seeds, Path(output), [*overrides, *teacher_overrides]),
        price_per_hour=price_per_hour,
        told={"license": license, "language": language, "data": sources.name_of(train)},
    )
    arguments |= {"compare": work.compared, "seeds": len(work.seeds)}
    work.command = command_of("compress", compress, arguments)
    work.watchers = {"on_step": on_step, "on_evaluation": on_evaluation}
    results = work.run(overrides, teacher_overrides)
    if limit:
        work.pick(results, limit)
    return Job(output, results)


class Work:
    """A recipe on a source, in a folder; the other arguments are those of `compress`."""

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        folder: Path,
        *,
        given: str = "",
        compare: Sequence[str] = (),
        then: Sequence[str] = (),
        export: str = chosen.BEST,
        formats: Sequence[str] = (),
        prunes: bool = False,
        layers: int = 0,
        seeds: Sequence[int] = (0,),
        price_per_hour: float | None = None,
        told: Mapping[str, str] = MappingProxyType({}),
    ):
        self.recipe, self.source, self.folder, self.given = recipe, source, folder, given
        self.layers, self.seeds, self.export = layers, tuple(seeds), export
        self.price_per_hour, self.told, self.command = price_per_hour, told, ""
        self.formats, self.prunes = tuple(formats), prunes
        if formats:
            from codir_jax.jobs import served

            served.require(self.formats)
        if prunes and recipe.exports:
            raise UserError("--prune_vocabulary is of a recipe with one export; leave it out")
        self.watchers: dict[str, Callable | None] = {}
        self.then = tuple(dict.fromkeys(then or recipe.then))
        for method in self.then:
            try:
                methods.parse(method)
            except UserError as error:
                raise UserError(f"--then={method}: {error}") from error
        self.before = _saved_settings(folder)
        compared_before = [name for name in self.before.get("stages", ()) if name in recipe.baselines]
        self.compared = tuple(dict.fromkeys([*(compare or recipe.compare), *compared_before]))
        self.stages = recipe.chosen(self.compared)
        chosen.check(export, self.stages)
        self._check_layers()
        self._check_given()

    def _check_layers(self) -> None:
        if not isinstance(self.layers, int) or isinstance(self.layers, bool) or self.layers < 0:
            raise UserError(
                f"--layers={self.layers}: expected the layers of the student, 1 or more, or 0 for half of the teacher's"
            )
        if self.layers and not any("layers" in stage.placeholders() for stage in self.stages):
            raise UserError(f"--layers={self.layers}: no stage of this recipe takes a number of layers; leave it out")

    def _check_given(self) -> None:
        """Refuses a model that nothing of the recipe would take."""
        is_taken = any(stage.placeholders() & {"given", TEACHER} for stage in self.stages)
        if self.given and not is_taken and not self.recipe.prepare and all(stage.config for stage in self.stages):
            raise UserError(f"--teacher={self.given}: no stage of this recipe takes a model; leave it out")

    def run(self, overrides, teacher_overrides) -> dict[str, Any]:
        """Runs what is not finished, and returns the results.

        Raises:
          UserError: what can be refused before the first stage is trained; the job's folder is not made then.
        """

        first = self.seeds[0]

        def configs(fits: bool, seed: int = first) -> dict[str, ConfigDict]:
            return self._configs(fits, seed, overrides, teacher_overrides)

        planned = configs(fits=False)
        for config in planned.values():
            stage_config.check(config)
        if self.formats:
            from codir_jax.jobs import served

            served.require(self.formats, planned[self.recipe.main])
        if self.prunes:
            from codir_jax.jobs import pruned

            pruned.check(next(iter(planned.values())), planned[self.recipe.main])
        learns_from = [stage.name for stage in self.stages if "tokenizer" in stage.placeholders()]
        makes_files = bool(learns_from or self.recipe.prepare)
        fits = False if makes_files else self._refuse(planned)
        if (done := self._claim(planned)) is not None:
            return done
        if self.recipe.prepare:
            self.recipe.prepare(self.folder, self.given, [("seed", str(first)), *self.source.overrides, *overrides])
        if learns_from:
            sources.make_tokenizer(planned[learns_from[0]], self.folder / "tokenizer", self.recipe.tokenizer)
        if makes_files:
            fits = self._refuse(planned)
        trained: dict[int, dict[str, Any]] = {}
        for seed in self.seeds:
            trained[seed], place = {}, over_seeds.place(self.folder, seed, first)
            for name, config in configs(fits, seed).items():
                console.say(f"== {self._title(name)}{f', seed {seed}' if seed != first else ''} -> {place / name}")
                trained[seed][name] = train_stage(config, place / name, **self.watchers)
        return self._finish(configs(fits), trained, fits)

    def _finish(self, configs: dict[str, ConfigDict], trained: dict[int, dict[str, Any]], fits: bool) -> dict[str, Any]:
        """Writes and prints the results.

        Raises:
          CannotWriteError: a full disk, whichever library met it; the same call measures and exports again.
        """
        from codir_jax.jobs import results as results_lib

        with whole.full_disk_told(self.folder):
            results = results_lib.of_job(self, configs, trained, fits)
            self._write(results)
        return results

    def _write(self, results: dict[str, Any]) -> None:
        from codir_jax.jobs import report

        report.write(self.folder, results)
        whole.write_json(self.folder / "results.json", results)
        print_results(results, self.folder)

    def _configs(self, fits: bool, seed: int, overrides, teacher_overrides) -> dict[str, ConfigDict]:
        """Name -> config of every stage that is trained with a seed; the teacher is trained with the first alone.

        Where the given model `fits`, it is the teacher as it is.
        """
        place, is_first = over_seeds.place(self.folder, seed, self.seeds[0]), seed == self.seeds[0]
        values = {
            **{stage.name: str(place / stage.name) for stage in self.recipe.stages},
            TEACHER: str(self.folder / TEACHER),
            "given": self.given,
            "trains_teacher": str(not fits),
            "tokenizer": str(self.folder / "tokenizer"),
            "layers": str(self.layers),
            "job": str(self.folder),
        }
        if fits:
            values[TEACHER] = self.given
        shared, changes = [("seed", str(seed)), *self.source.overrides], (overrides, teacher_overrides)
        has_teacher = is_first and not fits
        trained = [stage for stage in self.stages if stage.config and (has_teacher or stage.name != TEACHER)]
        return {
            stage.name: recipe_lib.config_of(stage, self.recipe.stages, values, shared, *changes) for stage in trained
        }

    def _refuse(self, planned: dict[str, ConfigDict]) -> bool:
        """Refuses a job that cannot be; whether the given model is a teacher as it is."""
        from codir_jax.jobs import refusals

        tasks = refusals.check(planned, self.folder, {self.recipe.main: self.then})
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
        claims.claim(folder, claims.JOB, "--output")
        whole.clean(folder)
        whole.write_json(folder / "job.json", settings)
        results = folder / "results.json"
        if not results.exists():
            return None
        done = json.loads(results.read_text(encoding="utf-8"))
        if "verdict" not in done:
            return None  # of an older version: what is trained stays, the rest is done again
        new = [stage.title for stage in self.stages if stage.in_table and stage.name not in done["models"]]
        new += [method for method in self.then if method not in done.get("then", ())]
        new += [name for name in self.formats if name not in done.get("formats", ())]
        new += ["--prune_vocabulary"] * (self.prunes and chosen.PRUNED not in done["models"])
        new += [f"seed {seed}" for seed in self.seeds if seed not in done["seeds"]]
        if new or done.get("export_wanted") != self.export or tuple(done.get("then", ())) != self.then:
            console.say(
                f"{folder}: goes on with {', '.join(new) or f'--export={self.export}'}; what is finished stays\n"
            )
            return None
        console.say(f"{folder}: already finished; remove the folder to run it again\n")
        if self.price_per_hour in (None, done["price_per_hour"]):
            print_results(done, folder)
        else:
            done["price_per_hour"] = self.price_per_hour
            self._write(done)
        return done

    def pick(self, results: dict[str, Any], limit: pareto.Limit) -> str:
        """Copies the model within the limit to picked/ and tells its name.

        Raises:
          UserError: there is none; everything that was made stays.
        """
        rows = results["models"]
        primary = next(metric for metric in results["metrics"] if metric["name"] == results["primary_metric"])
        name = pareto.pick(rows, primary, limit)
        with whole.folder(self.folder / "picked") as aside:
            shutil.copytree(find_folder(rows[name]["folder"]), aside, dirs_exist_ok=True)
        console.say(f"picked: {rows[name]['title']}, {rows[name]['bytes']} bytes -> {self.folder / 'picked'}")
        return name


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
    stages, begun = now["stages"], before["stages"]
    if missing := [name for name in before["stages"] if name not in now["stages"]]:
        given.append(f"stages: {', '.join(missing)} there, and not here; is it another --recipe?")
    of_stages: dict[str, list[str]] = {}
    for name in before["stages"]:
        if name in now["stages"]:
            for line in stage_config.differing(stages[name], begun[name]):
                of_stages.setdefault(line, []).append(name)
    return given + [f"{line} ({', '.join(names)})" for line, names in of_stages.items()]


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Prints the table and where things lie."""
    from codir_jax.jobs import report, screen, served

    told = [screen.summary(results), *served.on_screen(results)]
    print("\n".join(told) + f"\nreport: {folder / report.NAME}.html   export: {results['export']}", flush=True)
