"""A recipe: which of its stages make up a job, what they are told, and what no recipe can be."""

from pathlib import Path

import pytest

from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs.recipe import Recipe, StageSpec
from codir_jax.processes.user_error import UserError

TEACHER = StageSpec("teacher", "teacher", "configs/codir/finetune_teacher.py:demo", (("student.num_layers", "3"),))
CONFIG = "configs/codir/finetune_distill.py:demo"
TAUGHT = (("teacher.path", "{teacher}"),)
RECIPE = Recipe(
    "A job",
    (
        StageSpec("start", "as given", ""),
        TEACHER,
        StageSpec("finetune", "no teacher", f"{CONFIG},finetune"),
        StageSpec("first", "prepares", f"{CONFIG},distill", TAUGHT, in_table=False),
        StageSpec("second", "goes on", f"{CONFIG},finetune", (("student.path", "{first}"),)),
        StageSpec("other", "a baseline", f"{CONFIG},distill", TAUGHT),
    ),
    main="second",
)
VALUES = {"teacher": "/job/teacher", "first": "/job/first", "given": "", "layers": "0"}


def names(stages):
    return [stage.name for stage in stages]


def test_a_job_has_the_main_stage_what_it_is_made_of_and_what_is_compared():
    assert names(RECIPE.chosen(())) == ["start", "teacher", "first", "second"]
    assert names(RECIPE.chosen(["finetune"])) == ["start", "teacher", "finetune", "first", "second"]
    alone = RECIPE._replace(main="finetune")
    assert names(alone.chosen(())) == ["start", "finetune"]  # nothing names the teacher's folder
    assert RECIPE.baselines == ("finetune", "other")
    assert RECIPE.main_arm == RECIPE.main and RECIPE.main_arm not in RECIPE.baselines
    with pytest.raises(recipe_lib.UserError, match=r"\['first'\]; known: finetune, other"):
        RECIPE.chosen(["first"])


def config(name, overrides=(), teacher_overrides=()):
    stage = next(stage for stage in RECIPE.stages if stage.name == name)
    return recipe_lib.config_of(stage, RECIPE.stages, VALUES, [("seed", "7")], overrides, teacher_overrides)


def test_an_override_holds_for_the_stage_that_it_names_or_for_all():
    overrides = [
        ("optimizer.learning_rate", "0.5"),
        ("second.optimizer.learning_rate", "0.25"),
        ("data.max_length", "9"),
    ]
    of_teacher = [("optimizer.learning_rate", "0.125")]
    found = {name: config(name, overrides, of_teacher) for name in ("teacher", "first", "second")}
    assert {name: c.optimizer.learning_rate for name, c in found.items()} == {
        "teacher": 0.125,
        "first": 0.5,
        "second": 0.25,
    }
    assert {c.data.max_length for c in found.values()} == {9} and {c.seed for c in found.values()} == {7}
    assert found["second"].student.path == "/job/first" and found["first"].teacher.path == "/job/teacher"
    assert found["teacher"].student.num_layers == 3
    assert config("first", [("teacher.allow_weak", "true")]).teacher.allow_weak  # a field, not the stage
    assert recipe_lib.of_every_stage(RECIPE.stages, overrides) == [overrides[0], overrides[2]]


def test_an_override_of_a_stage_that_is_not_trained_is_refused():
    trained = RECIPE.chosen(())
    recipe_lib.check_overrides(RECIPE.stages, trained, [("second.seed", "1"), ("seed", "1"), ("teacher.path", "x")])
    with pytest.raises(recipe_lib.UserError, match=r"--config.other.seed=1 is of other, .* it trains first, second"):
        recipe_lib.check_overrides(RECIPE.stages, trained, [("other.seed", "1")])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((TEACHER, TEACHER), "two stages or placeholders are called 'teacher'"),
        ((StageSpec("job", "", CONFIG), TEACHER), "called 'job'"),
        ((StageSpec("early", "", CONFIG, TAUGHT), TEACHER), "names .'teacher'., which no earlier stage makes"),
        ((TEACHER._replace(in_table=False),), "main 'teacher' must be a stage that is trained"),
        ((TEACHER._replace(config=""),), "main 'teacher' must be a stage that is trained"),
    ],
)
def test_what_no_recipe_can_be(stages, message, tmp_path, monkeypatch):
    folder = tmp_path / "configs" / "x"
    folder.mkdir(parents=True)
    (folder / "recipe.py").write_text(
        "from codir_jax.jobs.recipe import Recipe, StageSpec\n"
        f"def get_recipe(argument):\n    return Recipe('', {tuple(stages)!r}, main='teacher')\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        recipe_lib.load("x", "own")


@pytest.mark.parametrize(
    ("name", "argument", "told"),
    [
        ("meta_kd", "demo", "--demo is not for it; it takes --train"),
        ("nce_lm", "own", "--train is not for it; it takes --text or --demo"),
        ("supcl_seq", "own,column=shop,domain=a", "--domain_column and --domains are of --recipe=meta_kd"),
        ("pair_supcon", "text", "--text is not for it; it takes --train or --demo"),
        ("pair_supcon", "cola", "--task=cola is not for it"),
    ],
)
def test_what_a_recipe_does_not_serve_is_told_by_its_flag(name, argument, told):
    with pytest.raises(UserError, match=f"--recipe={name}: {told}"):
        recipe_lib.load(name, argument)


def test_a_field_that_one_stage_lacks_is_told_with_the_flag_of_one_stage():
    with pytest.raises(UserError, match=r"^stage first \(--config.first.KEY=VALUE is of it alone\): unknown"):
        config("first", [("objective.contrastive", "1")])
    with pytest.raises(UserError, match=r"^stage teacher \(--teacher_config.KEY=VALUE is of it alone\): unknown"):
        config("teacher", [("data.negatives", "1")])


def test_a_placeholder_may_have_a_dot():
    stages = (
        StageSpec("inside_a.com", "", "configs/codir/finetune_teacher.py:tiny"),
        StageSpec("student_a.com", "", "configs/codir/finetune_teacher.py:tiny", (("student.path", "{inside_a.com}"),)),
    )
    assert stages[1].placeholders() == {"inside_a.com"}
    changes = [("student_a.com.train.total_epochs", "0.5"), ("inside_a.com.train.total_epochs", "0.25")]
    config = recipe_lib.config_of(stages[1], stages, {"given": "", "inside_a.com": "there"}, [], changes, [])
    assert config.student.path == "there" and config.train.total_epochs == 0.5


def test_an_unknown_recipe_is_told_with_those_that_are_known():
    assert (Path("configs") / "codir" / "recipe.py").exists()
    with pytest.raises(recipe_lib.UserError, match=r"--recipe=cadir does not exist; known: .*codir"):
        recipe_lib.load("cadir", "own")
