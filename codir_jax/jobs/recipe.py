"""What a whole job is made of: the stages of a paper, from its teacher to the student that is exported.

`configs/NAME/recipe.py` defines `get_recipe(task) -> Recipe` for the names of tasks (`codir_jax/tasks`) that it serves;
`codir compress --recipe=NAME` finds it.
"""

from pathlib import Path
from typing import NamedTuple

from codir_jax import config as config_lib
from codir_jax.processes.user_error import UserError


class StageSpec(NamedTuple):
    """One stage of a job.

    Attributes:
      name: of its folder, and of its row in results.json.
      title: of its row in the table.
      config: `PATH.py:ARG`, where {data} stands for what the configs call the data ("sst2", "own", "demo").
    """

    name: str
    title: str
    config: str


class Recipe(NamedTuple):
    """A job.

    Attributes:
      stages: the teacher's first, then the students' in the order of the table. All students start alike from it.
      main: name of the student that is always trained, and exported; the others are baselines, on request.
    """

    stages: tuple[StageSpec, ...]
    main: str

    @property
    def teacher(self) -> StageSpec:
        """The stage that makes the teacher, where the given one does not fit."""
        return self.stages[0]

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the students beside the main one."""
        return tuple(stage.name for stage in self.stages[1:] if stage.name != self.main)

    def chosen(self, compare) -> tuple[StageSpec, ...]:
        """The students of a job: the main one and the baselines in `compare`.

        Raises:
          UserError: a name that is no baseline of this recipe.
        """
        unknown = [name for name in compare if name not in self.baselines]
        if unknown:
            raise UserError(f"--compare has {unknown}; known: {', '.join(self.baselines)}")
        return tuple(stage for stage in self.stages[1:] if stage.name in (*compare, self.main))


def load(name: str, task: str) -> Recipe:
    """The recipe `configs/NAME/recipe.py` for a task.

    Raises:
      UserError: there is none, or it does not serve the task.
    """
    if not name or Path(name).name != name:
        raise UserError(f"--recipe={name!r}: expected the name of a folder in configs, such as codir")
    path = config_lib.find(f"configs/{name}/recipe.py")
    recipe = config_lib.function_of(path, "get_recipe")(task)
    names = [stage.name for stage in recipe.stages]
    if recipe.main not in names[1:] or len(set(names)) < len(names):
        raise ValueError(f"{path}: main {recipe.main!r} must be one of the students, each named once: {names}")
    return recipe
