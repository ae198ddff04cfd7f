"""A recipe: the stages of a paper as one job. `codir compress --recipe=NAME` runs `configs/NAME/recipe.py`.

That file defines `get_recipe(argument) -> Recipe`, and NAME where that is not its folder. The argument is comma
separated: what there is to train on, `own` (files of one's own), a GLUE task, `demo` (embedded data) or `text` (running
text), and `scratch` where no model is given. A recipe refuses what it cannot do, by `config.parse_arguments`.

Placeholders in the settings of a stage:

    {given}           the model that the job is given; a recipe that names it cannot do without
    {teacher}         the given model where it has a trained head for the data, else the folder of the stage "teacher"
    {trains_teacher}  "True" where the job trains the stage "teacher", else "False"
    {tokenizer}       a tokenizer that the job trains on the text of the stage that names it
    {layers}          of --layers
    {job}             the folder of the job
    {NAME}            the folder of an earlier stage

A stage is part of the job if it is the main one, is named by --compare, or if another part names its folder. So the
stage "teacher" is left out where the given model fits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.data.sets import glue
from codir_jax.processes.user_error import MissingFileError, UserError
from codir_jax.stage import config as stage_config

TEACHER = "teacher"

# Overrides of the students that hold for the teacher as well: one set of data, one arithmetic.
FOR_ALL = ("data.", "train.deterministic")

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")  # its name may have any character, as a domain's


class StageSpec(NamedTuple):
    """A stage of a job.

    Attributes:
      name: of its folder, of its row in results.json, and for --compare.
      title: of its row in the table.
      config: `PATH.py:ARG`; "" for the given model as it is, which is only judged and measured.
      settings: (dotted key of the config, text with placeholders); a user's overrides come after them.
      then: the way in which its model is stored, of `compression.methods`, where that is not float32 as it is.
      in_table: whether its model is judged and measured; not one that only prepares another stage.
    """

    name: str
    title: str
    config: str
    settings: tuple[tuple[str, str], ...] = ()
    in_table: bool = True
    then: str = ""

    def placeholders(self) -> set[str]:
        """The names in its settings."""
        return {name for _, text in self.settings for name in _PLACEHOLDER.findall(text)}


class Recipe(NamedTuple):
    """A job.

    Attributes:
      title: of the report.
      stages: in the order of training and of the table; a stage names the folders of earlier ones only.
      main: name of the one that is always trained, and exported; the others are baselines or prepare it.
      then: ways to make the main model smaller at once, where a user names none, of `compression.methods`.
      compare: baselines that are trained where a user names none.
      tokenizer: kind of the one that it trains, of `data.corpus.vocabulary.KINDS`.
      also: metrics that the table has beside the primary one.
      batch_size: of the second latency that is told.
      needs_dev: own files are labelled texts, with a dev file by which a model is chosen and reported; without one it
        is drawn from train.
      exports: folders in export/, where a job ends with several models; empty: one, in export/ itself.
      groups: arm -> its stages, one for each of `exports`; the first arm is always trained and has the main stage, the
        others are names for --compare.
      prepare: (folder of the job, the given model, overrides of every stage) -> makes files in that folder that the
        stages read, or finds them made; None where they read the user's own.
    """

    title: str
    stages: tuple[StageSpec, ...]
    main: str
    needs_dev: bool = True
    exports: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    prepare: Callable[[Path, str, Sequence[tuple[str, str]]], None] | None = None
    then: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    tokenizer: str = "wordpiece"
    also: tuple[str, ...] = ()
    batch_size: int = 32

    @property
    def main_arm(self) -> str:
        """What is trained and exported without a --compare, by the name that --export has for it."""
        return next(iter(self.groups), self.main)

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names for --compare: what is in the table beside the main one, and is not there anyway."""
        grouped = {name for names in self.groups.values() for name in names}
        others = {self.main, TEACHER, *grouped}
        alone = tuple(s.name for s in self.stages if s.in_table and s.config and s.name not in others)
        return (*tuple(self.groups)[1:], *alone)

    def arm(self, name: str) -> tuple[str, ...]:
        """The stages that a name of --compare or --export stands for."""
        return self.groups.get(name, (name,))

    def chosen(self, compare: Sequence[str]) -> tuple[StageSpec, ...]:
        """The stages of a job, in order.

        Raises:
          UserError: `compare` names what is no baseline of this recipe.
        """
        if unknown := [name for name in compare if name not in self.baselines]:
            raise UserError(f"--compare has {unknown}; known: {', '.join(self.baselines)}")
        named = [stage for name in (compare or self.compare) for stage in self.arm(name)]
        always = next(iter(self.groups.values()), (self.main,))
        wanted = {*always, *named, *(stage.name for stage in self.stages if not stage.config)}
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted |= stage.placeholders()
        return tuple(stage for stage in self.stages if stage.name in wanted)


def load(name: str, argument: str) -> Recipe:
    """The recipe `configs/NAME/recipe.py` for an argument.

    Raises:
      UserError: there is none, or it does not serve the argument.
    """
    if not name or Path(name).name != name:
        raise UserError(f"--recipe={name!r}: expected the name of a folder in configs, such as codir")
    try:
        path = config_lib.find(f"configs/{name}/recipe.py")
    except MissingFileError as error:
        folders = (Path("configs"), *config_lib.shipped())
        files = {_name_of(found): found for folder in folders for found in sorted(folder.glob("*/recipe.py"))}
        if name not in files:
            known = ", ".join(sorted(files))
            raise MissingFileError(f"--recipe={name} does not exist; known: {known}") from error
        path = files[name]
    try:
        recipe = config_lib.function_of(path, "get_recipe")(argument)
    except config_lib.UnknownArgumentError as error:
        raise UserError(f"--recipe={name}: {_in_flags(error)}") from error
    _check(recipe, path)
    return recipe


def _in_flags(error: config_lib.UnknownArgumentError) -> str:
    """What a recipe does not serve, by the flags that a user knows."""
    if error.word == "scratch":
        return "it starts from a model; give one by --teacher or --model"
    if error.word.startswith(("column=", "domain=", "with=")):
        return "--domain_column and --domains are of --recipe=meta_kd; leave them out"
    flags = {"own": "--train", "text": "--text", "demo": "--demo"}
    takes = [flag for word, flag in flags.items() if word in error.known]
    takes += ["--task"] if set(error.known) & set(glue.TRAINABLE_TASKS) else []
    return f"{flags.get(error.word, f'--task={error.word}')} is not for it; it takes {' or '.join(takes)}"


def _name_of(path: Path) -> str:
    """NAME of a recipe's file, read without running it; else the name of its folder."""
    found = re.search(r'^NAME = "(\w+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.parent.name


def _check(recipe: Recipe, path: Path) -> None:
    before = {"given", "trains_teacher", "tokenizer", "layers", "job"}
    for stage in recipe.stages:
        if stage.name in before:
            raise ValueError(f"{path}: two stages or placeholders are called {stage.name!r}")
        if unknown := stage.placeholders() - before:
            raise ValueError(f"{path}: stage {stage.name!r} names {sorted(unknown)}, which no earlier stage makes")
        before.add(stage.name)
    if recipe.main not in [stage.name for stage in recipe.stages if stage.config and stage.in_table]:
        raise ValueError(f"{path}: main {recipe.main!r} must be a stage that is trained and in the table")


def of_every_stage(stages: Sequence[StageSpec], overrides: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The overrides whose key does not begin with the name of a stage."""
    return [(key, text) for key, text in overrides if not _stage_of(key, stages)]


def check_overrides(
    stages: Sequence[StageSpec], trained: Sequence[StageSpec], overrides: Sequence[tuple[str, str]]
) -> None:
    """Refuses an override of a stage that a job does not train; in silence it would change nothing.

    Raises:
      UserError: with the flag, and what is trained.
    """
    names = [stage.name for stage in trained if stage.config and stage.name != TEACHER]
    for key, text in overrides:
        if (of := _stage_of(key, stages)) and of not in names:
            raise UserError(
                f"--config.{key}={text} is of {of}, which this job does not train; it trains {', '.join(names)} "
                "(--compare=NAME adds a baseline)"
            )


def _stage_of(key: str, stages: Sequence[StageSpec]) -> str:
    """The stage whose name a key begins with, apart from "teacher", a field of every config; "" for none."""
    found = (stage.name for stage in stages if stage.name != TEACHER and key.startswith(f"{stage.name}."))
    return max(found, key=len, default="")  # a name may have a dot, as a domain's


def config_of(
    stage: StageSpec,
    stages: Sequence[StageSpec],
    values: Mapping[str, str],
    shared: Sequence[tuple[str, str]],
    overrides: Sequence[tuple[str, str]],
    teacher_overrides: Sequence[tuple[str, str]],
) -> ConfigDict:
    """The config of a stage.

    Args:
      stages: of the job; an override whose key begins with the name of one, apart from "teacher", holds for it alone.
      values: of the placeholders.
      shared: settings of every stage; the stage's own come after them.
      overrides, teacher_overrides: of the user, last.

    Raises:
      UserError: an unknown key, or a model is needed and none is given.
    """
    if "given" in stage.placeholders() and not values["given"]:
        raise UserError("--teacher is empty; give a Hugging Face folder, a workdir or a hub name such as roberta-base")
    changes = []
    for key, text in overrides:
        if of := _stage_of(key, stages):
            changes += [(key.removeprefix(f"{of}."), text)] if of == stage.name else []
        elif stage.name != TEACHER or key.startswith(FOR_ALL):
            changes.append((key, text))
    if stage.name == TEACHER:
        changes += teacher_overrides
    settings = [(key, _PLACEHOLDER.sub(lambda found: values[found[1]], text)) for key, text in stage.settings]
    try:
        return stage_config.load(stage.config, [*shared, *settings, *changes])
    except MissingFileError:
        raise
    except UserError as error:
        flag = "--teacher_config.KEY" if stage.name == TEACHER else f"--config.{stage.name}.KEY"
        raise UserError(f"stage {stage.name} ({flag}=VALUE is of it alone): {error}") from error
