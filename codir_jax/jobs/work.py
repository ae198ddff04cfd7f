"""A job at work: the stages of a recipe on a source, in a folder; what is finished there stays."""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from codir_jax.compression import methods
from codir_jax.convert.folder import find_folder
from codir_jax.jobs import chosen, over_seeds, own_data, pareto, same_job, sources, waves, workers
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs.augment import OfJob
from codir_jax.jobs.recipe import TEACHER, Recipe
from codir_jax.jobs.sources import Source
from codir_jax.jobs.train import train as train_stage
from codir_jax.processes import console, whole
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config


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
        num_workers: int = 1,
        price_per_hour: float | None = None,
        copies: OfJob | None = None,
        told: Mapping[str, str] = MappingProxyType({}),
    ):
        self.recipe, self.source, self.folder, self.given = recipe, source, folder, given
        self.layers, self.seeds, self.export = layers, tuple(seeds), export
        self.num_workers, self.copies = num_workers, copies
        self.command = ""
        self.watchers: dict[str, Callable | None] = {}
        # What was asked for before stays, unless it is asked for in another way.
        self.done = _read_results(folder)
        self.then = tuple(dict.fromkeys([*self.done.get("then", ()), *(then or recipe.then)]))
        self.formats = tuple(dict.fromkeys([*self.done.get("formats_wanted", ()), *formats]))
        tested_by = self.done.get("test_path", "")
        if tested_by and not source.test_path and not recipe.prepare and Path(tested_by).expanduser().exists():
            self.source = source.with_test(tested_by)
        self.prunes = prunes or chosen.PRUNED in self.done.get("models", ())
        if self.prunes and recipe.exports:
            raise UserError("--prune_vocabulary is of a recipe with one export; leave it out")
        self.price_per_hour = self.done.get("price_per_hour") if price_per_hour is None else price_per_hour
        if self.price_per_hour is not None and not 0 <= self.price_per_hour < math.inf:
            raise UserError(f"--price_per_hour={price_per_hour}: expected a number, 0 or more")
        self.told = {**told, **{name: told.get(name) or self.done.get(name, "") for name in chosen.TOLD_IN_CARD}}
        for method in self.then:
            try:
                methods.parse(method)
            except UserError as error:
                raise UserError(f"--then={method}: {error}") from error
        self.before = same_job.settings(folder)
        stages_before = set(self.before.get("stages", ()))
        compared_before = [name for name in recipe.baselines if stages_before.issuperset(recipe.arm(name))]
        named = [name for name in compare if name != recipe.main_arm]  # it is there anyway
        self.compared = tuple(dict.fromkeys([*(named or recipe.compare), *compared_before]))
        self.stages = recipe.chosen(self.compared)
        chosen.check(export, chosen.titles(recipe, self.stages))
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

    def _check_workers(self) -> None:
        workers.check(self.num_workers)
        if self.num_workers == 1:
            return
        if any(self.watchers.values()):
            raise UserError("on_step and on_evaluation are of stages in this process; leave them or workers out")
        # This process judges and measures: it must not take the memory of the cards before.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    def run(self, overrides, teacher_overrides) -> dict[str, Any]:
        """Runs what is not finished, and returns the results.

        Raises:
          UserError: what can be refused before the first stage is trained; the job's folder is not made then.
        """

        first = self.seeds[0]
        self._check_workers()
        recipe_lib.check_overrides(self.recipe.stages, self.stages, overrides)

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
        makes_files = bool(learns_from or self.recipe.prepare or self.copies)
        is_begun = bool(self.before)
        fits = False if makes_files else self._refuse(planned)
        if self.copies and not self.copies.is_made:
            self._refuse_without_copies(planned)
        same_job.claim(self.folder, self.given, planned, self.before)
        if self.recipe.prepare:
            of_all = recipe_lib.of_every_stage(self.recipe.stages, overrides)
            of_all = [("seed", str(first)), *self.source.overrides, *of_all]
            self.recipe.prepare(self.folder, self.given, of_all, is_begun)
        if self.copies:
            self.copies.make(is_begun)
        if learns_from and not (is_begun and (self.folder / "tokenizer").exists()):
            sources.make_tokenizer(planned[learns_from[0]], self.folder / "tokenizer", self.recipe.tokenizer)
        if makes_files:
            fits = self._refuse(planned)
        if (done := self._finished()) is not None:
            return done
        trained: dict[int, dict[str, Any]] = {}
        if self.num_workers != 1:
            waves.train(self.stages, {seed: configs(fits, seed) for seed in self.seeds}, self.folder, self.num_workers)
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
        for name, task in tasks.items():
            same_job.check_data(self.folder / name, task)
        if not (self.given and TEACHER in planned):
            return False
        return refusals.fits(tasks[self.recipe.main], self.given)

    def _refuse_without_copies(self, planned: dict[str, ConfigDict]) -> None:
        """Refuses a job that cannot be, before the copies of its texts are made."""
        from codir_jax.jobs import refusals

        without = {name: config.copy_and_resolve_references() for name, config in planned.items()}
        for config in without.values():
            config.data.unlabelled_path = ""
        refusals.check(without, self.folder, {self.recipe.main: self.then})

    def _title(self, name: str) -> str:
        return next(stage.title for stage in self.stages if stage.name == name)

    def _finished(self) -> dict[str, Any] | None:
        """The results of the same job, printed again, where nothing of it is left to do."""
        folder, done = self.folder, dict(self.done)
        if not done:
            return None
        new = [stage.title for stage in self.stages if stage.in_table and stage.name not in done["models"]]
        new += [method for method in self.then if method not in done.get("then", ())]
        new += [name for name in self.formats if name not in done.get("formats_wanted", ())]
        test = self.source.test_path
        new += [f"--test={test}"] * (bool(test) and own_data.content(test) != done.get("test_content", ""))
        new += ["--prune_vocabulary"] * (self.prunes and chosen.PRUNED not in done["models"])
        in_card = [(name, self.told.get(name, "")) for name in chosen.TOLD_IN_CARD]
        new += [f"--{name}={value}" for name, value in in_card if value not in ("", done.get(name))]
        new += [f"seed {seed}" for seed in self.seeds if seed not in done["seeds"]]
        if new or done.get("export_wanted") != self.export:
            console.say(
                f"{folder}: goes on with {', '.join(new) or f'--export={self.export}'}; what is finished stays\n"
            )
            return None
        console.say(f"{folder}: already finished; remove the folder to run it again\n")
        if self.price_per_hour == done["price_per_hour"]:
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
        name = pareto.pick(rows, results["metrics"][0], limit)
        with whole.folder(self.folder / "picked") as aside:
            shutil.copytree(find_folder(rows[name]["folder"]), aside, dirs_exist_ok=True)
        console.say(f"picked: {rows[name]['title']}, {rows[name]['bytes']} bytes -> {self.folder / 'picked'}")
        return name


def _read_results(folder: Path) -> dict[str, Any]:
    """What an earlier call wrote; {} where none came to its end, or one of an older version."""
    path = folder / "results.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if "verdict" in found else {}


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Prints the table and where things lie."""
    from codir_jax.jobs import report, screen, served

    told = [screen.summary(results), *served.on_screen(results)]
    print("\n".join(told) + f"\nreport: {folder / report.NAME}.html   export: {results['export']}", flush=True)
