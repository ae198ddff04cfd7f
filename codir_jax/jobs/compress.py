"""The whole job: a recipe run on the user's data. Teacher, students, costs, export, one table, a short report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.convert.folder import model_folder
from codir_jax.convert.huggingface import Pretrained
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs import sources
from codir_jax.jobs.recipe import Recipe
from codir_jax.jobs.sources import Source
from codir_jax.jobs.train import train as train_stage
from codir_jax.objectives.contract import make_objective
from codir_jax.processes import console, distributed
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import checks, models, workdir
from codir_jax.stage import config as stage_config
from codir_jax.stage.assembled import make_tokenizer, setting_of
from codir_jax.tasks.contract import Task, task_module

# Overrides of the students that hold for the teacher as well: one set of data, one arithmetic.
FOR_ALL = ("data.", "train.deterministic")


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
    recipe: str = "codir",
    seed: int = 0,
    overrides: Sequence[tuple[str, str]] = (),
    teacher_overrides: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Compresses `teacher` and returns what `results.json` holds; stopped, the same call goes on.

    Args:
      teacher: Hugging Face folder, workdir or hub name. Where it has no trained head for the task it is trained first.
        Empty, with `text` or `demo`: a small teacher is made of nothing (and with `text` a tokenizer).
      train, dev, test, unlabelled: own files, or a GLUE `task` (read from `glue_dir`, else downloaded), or `demo`.
      text: running text in their place (`data.sources`: files, folders, globs, comma separated): a masked language
        model is compressed, for any task later.
      output: folder of the job: teacher/, one folder a student, export/, report.md, report.png, results.json.
      layers: of the student; 0 is half of the teacher's.
      text_column, text_pair_column, label_column, regression: of own files; empty: "sentence", none, "label".
      compare: baselines to train from the same start, of the recipe.
      recipe: name of a folder in configs/.
      seed: of every stage.
      overrides, teacher_overrides: (dotted config key, text) of the students and of the teacher. Those of `data` that
        the students have hold for the teacher too, so that it is not trained on what the students are judged by.

    Raises:
      UserError: before anything is trained.

    Example:
      >>> codir_jax.compress("roberta-base", "train.tsv", "dev.tsv", layers=6, output="runs/mine")["export"]
      'runs/mine/export'
      >>> codir_jax.compress("roberta-base", text="books/*.txt", layers=6, output="runs/any_task")["export"]
      'runs/any_task/export'
    """
    if not output:
        raise UserError("--output is empty; name the folder of the job")
    fields = {
        "--test": test,
        "--unlabelled": unlabelled,
        "--text_column": text_column,
        "--text_pair_column": text_pair_column,
        "--label_column": label_column,
        "--regression": regression,
        "--glue_dir": glue_dir,
    }
    source = sources.source_of(text=text, train=train, dev=dev, task=task, demo=demo, teacher=teacher, fields=fields)
    job = Job(source, recipe_lib.load(recipe, source.task), Path(output), teacher)
    job.configure(compare, layers, seed, overrides, teacher_overrides)
    return job.run()


class Job:
    """A recipe on a source, in a folder.

    Attributes:
      configs: name of a student's stage -> its config. teacher_config: of the teacher's stage.
      needs_training: the teacher's stage is run.
    """

    def __init__(self, source: Source, recipe: Recipe, folder: Path, teacher: str):
        self.source, self.recipe, self.folder, self.teacher = source, recipe, folder, teacher

    def configure(self, compare, layers: int, seed: int, overrides, teacher_overrides) -> None:
        """Makes and checks every config, and refuses what can be refused before the teacher is trained."""
        source, students = self.source, self.recipe.chosen(compare)
        self.titles = {spec.name: spec.title for spec in (self.recipe.teacher, *students)}
        common = [("seed", str(seed)), *source.overrides]
        for_all = [(key, value) for key, value in overrides if key.startswith(FOR_ALL)]
        start = sources.teacher_start(source, self.teacher, self.folder / "tokenizer")
        self.teacher_config = self._load(self.recipe.teacher, [*common, *start, *for_all, *teacher_overrides])
        stage_config.check(self.teacher_config)
        own = [*common, ("teacher.path", self.teacher or "pending"), ("student.num_layers", str(layers))]
        self.configs = {spec.name: self._load(spec, [*own, *overrides]) for spec in students}
        for config in self.configs.values():
            stage_config.check(config)
        self.needs_training = not self._fits()
        for config in self.configs.values():
            if self.needs_training:
                config.teacher.path = str(self.folder / self.recipe.teacher.name)
                if source.keeps_weak and "teacher.allow_weak" not in dict(overrides):
                    config.teacher.allow_weak = True
            config.teacher.cache_dir = config.teacher.cache_dir or str(self.folder / "teacher_cache")

    def run(self) -> dict[str, Any]:
        """Runs what is not finished, and returns the results."""
        if (done := self._claim()) is not None:
            return done
        if self.needs_training:
            if self.source.trains_tokenizer and not self.teacher:
                sources.make_tokenizer(self.teacher_config, self.folder / "tokenizer")
                self._check_students(self.teacher_config)
            made = self.folder / self.recipe.teacher.name
            console.say(f"== training the teacher -> {made}")
            train_stage(self.teacher_config, made)
        stages = {}
        for name, config in self.configs.items():
            console.say(f"== {self.titles[name]} -> {self.folder / name}")
            stages[name] = train_stage(config, self.folder / name)
        return self._report(stages)

    def _load(self, spec, overrides) -> ConfigDict:
        return config_lib.load(spec.config.replace("{data}", self.source.argument), overrides)

    def _fits(self) -> bool:
        """Whether the teacher has a trained head for the task. The students are checked against it as well.

        Raises:
          UserError: bad data, or a student that cannot be made from this teacher.
        """
        if self.teacher:
            task, source = self._check_students(self.configs[self.recipe.main])
        elif self.source.trains_tokenizer:
            return False  # the students are checked when there is a tokenizer
        else:
            task, source = self._check_students(self.teacher_config)
        if source is None or not source.has_head:
            return False
        try:
            task.check_checkpoint(source, self.teacher)
        except UserError:
            return False  # a head for other classes: it is fine-tuned anew
        return True

    def _check_students(self, probe: ConfigDict) -> tuple[Task, Pretrained | None]:
        """Refuses students that cannot be made; (the task, the given teacher).

        Args:
          probe: whose data and tokenizer are read: of the main student, or of the teacher that is to be made.
        """
        tokenizer = make_tokenizer(probe)
        task = task_module(probe.task.name).make(probe, tokenizer)
        if self.teacher:
            source = models.load_checkpoint(task.head, self.teacher, "--teacher")
            sizes = source.config
        else:
            source, sizes = None, models.random_sizes(probe.student, None, tokenizer)
        for config in self.configs.values():
            mesh, table = mesh_lib.make_mesh(config.mesh), mesh_lib.rules_of(config.mesh)
            checks.check_batch_sizes(config, rules.num_batch_shards(mesh, table), distributed.num_processes())
            student, teacher = models.shapes_only(config, task.head, sizes, tokenizer)
            checks.check_length(config, student)
            make_objective(config.objective, setting_of(config, task, student, teacher))
        return task, source

    def _claim(self) -> dict[str, Any] | None:
        """Makes the job's folder; where the same job is finished, its results, printed again.

        Raises:
          UserError: the folder holds a job with other settings; the first keys that differ are named.
        """
        folder = self.folder
        settings = {"teacher": self.teacher, "teacher_config": self.teacher_config.to_dict()}
        settings["configs"] = {name: config.to_dict() for name, config in self.configs.items()}
        settings = json.loads(json.dumps(settings))
        saved = folder / "job.json"
        has_progress = any(workdir.has_progress(inner) for inner in (folder, *folder.glob("*")))
        before = json.loads(saved.read_text(encoding="utf-8")) if saved.exists() else settings
        differing = config_lib.differences(ConfigDict(_what_counts(settings)), ConfigDict(_what_counts(before)))
        if has_progress and differing:
            raise UserError(
                f"{folder} holds a job with other settings; choose another --output. Differing keys:\n  "
                + "\n  ".join(differing[:10])
            )
        folder.mkdir(parents=True, exist_ok=True)
        workdir.write_json(saved, settings)
        results = folder / "results.json"
        if not results.exists():
            return None
        console.say(f"{folder}: already finished; remove the folder to run it again\n")
        done = json.loads(results.read_text(encoding="utf-8"))
        print_results(done, folder)
        return done

    def _report(self, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
        from codir_jax.jobs import export, measure, report

        console.say("== measuring cost, exporting")
        main, folder = stages[self.recipe.main], self.folder
        config = self.configs[self.recipe.main]
        teacher = self.recipe.teacher.name
        models = {teacher: model_folder(config.teacher.path, "teacher")}
        models |= {name: str(folder / name / "best") for name in self.configs}
        scores = {teacher: main["teacher_dev"], **{name: stage["dev"] for name, stage in stages.items()}}
        rows = measure.measure(models, config, scores)
        results = {
            "task": config.data.get("sources") or main["task"],
            "primary_metric": main["primary_metric"],
            "metrics": main["metrics"],
            "main": self.recipe.main,
            "models": {name: {"title": self.titles[name], "folder": models[name], **row} for name, row in rows.items()},
            "export": str(folder / "export"),
            "parity": export.export_model(str(folder / self.recipe.main), str(folder / "export")),
            "seconds": sum(stage["seconds"] for stage in stages.values()) + _seconds(folder / teacher),
            "seed": config.seed,
            **workdir.environment(),
        }
        report.write(folder, results)
        workdir.write_json(folder / "results.json", results)
        print_results(results, folder)
        return results


def _what_counts(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what binds no stage: who accepts a weak teacher once it was refused goes on with the same job."""
    counted = json.loads(json.dumps(settings))
    for config in (counted["teacher_config"], *counted["configs"].values()):
        del config["teacher"]["allow_weak"], config["mesh"]
    return counted


def _seconds(stage: Path) -> float:
    """Of the teacher's stage, where it was run."""
    path = stage / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else 0.0


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Prints the table and where things lie."""
    from codir_jax.jobs.report import table

    print(table(results))
    print(f"{results['parity']}\nreport: {folder / 'report.md'}   export: {results['export']}", flush=True)
