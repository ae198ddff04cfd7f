"""What a job finds once its stages are trained: the test scores of its seeds, and which of its models are exported."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from codir_jax.data.splits import RawSplit
from codir_jax.jobs import chosen, recipe, results
from codir_jax.processes.user_error import UserError

STAGES = tuple(recipe.StageSpec(name, name, "a.py") for name in ("teacher", "finetune", "codir"))


def test_on_test_each_seed_has_its_own_model_judged_as_the_first_one_was(monkeypatch):
    asked = []

    def evaluate(config, model, split):
        asked.append((model, split, config.student.dtype))
        return {"accuracy": 0.9 if "codir" in model else 0.7}

    monkeypatch.setattr(results, "evaluate", evaluate)
    job = SimpleNamespace(stages=STAGES, folder=Path("job"), seeds=(3, 4))
    configs = {name: ConfigDict({"student": {"dtype": "bfloat16"}}) for name in ("finetune", "codir")}
    rows = {"finetune": {"test": {"accuracy": 0.6}}, "codir": {"test": {"accuracy": 0.8}}, "teacher": {}}
    titles = dict(zip(rows, rows, strict=True))
    found = results._on_test(job, rows, configs, titles, "accuracy", "finetune")
    assert asked == [(f"job/seeds/4/{name}", "test", "float32") for name in ("finetune", "codir")]
    assert found["codir"]["scores"] == [0.8, 0.9] and abs(found["codir"]["difference"]["mean"] - 0.2) < 1e-9
    assert configs["codir"].student.dtype == "bfloat16"
    assert results._on_test(job, {"codir": {"dev": {}}}, configs, titles, "accuracy", "finetune") == {}


def _domains_job(export, arms=("student", "mixed")):
    """Two domains, of 30 and 10 dev rows, one stage of each in every arm."""
    groups = {arm: (f"{arm}_books", f"{arm}_dvd") for arm in ("student", "mixed", "single")}
    stages = tuple(
        recipe.StageSpec(name, f"{name.split('_')[1]}: arm {arm}", "a.py") for arm in groups for name in groups[arm]
    )
    made = recipe.Recipe("Title", stages, main="student_books", exports=("books", "dvd"), groups=groups)
    return SimpleNamespace(recipe=made, stages=made.chosen(arms[1:]), export=export, seeds=(0,), folder=Path("job"))


SCORES = {"student_books": 0.8, "student_dvd": 0.9, "mixed_books": 0.9, "mixed_dvd": 0.7}
TRAINED = {name: {"num_examples": {"dev": 30 if "books" in name else 10}} for name in SCORES}


@pytest.mark.parametrize(
    ("export", "arm", "why"),
    [
        ("best", "mixed", "2 models (books, dvd): arm mixed (accuracy 0.8500), the best on dev of 2, then arm student"),
        ("student", "student", "arm student (accuracy 0.8250), as --export=student says"),
    ],
)
def test_of_several_models_the_arm_is_exported_that_is_best_over_all_dev_rows(export, arm, why):
    metric = {"name": "accuracy", "higher_is_better": True}
    scores = {name: {"accuracy": value} for name, value in SCORES.items()}
    found = results._what_to_export(_domains_job(export), scores, metric, TRAINED)
    assert found[0] == arm and why in found[1]


def test_each_model_of_an_arm_has_its_own_export(monkeypatch):
    written, samples = {}, []

    def export_model(source, folder, formats, *, sample, **_):
        written[folder] = source
        samples.append(sample.texts_a)

    monkeypatch.setattr(results.export, "export_model", export_model)
    job = _domains_job("best")
    job.told, job.given, job.formats = {}, "model", ()
    rows = RawSplit([str(i) for i in range(40)])
    task = SimpleNamespace(read_rows=lambda: {"train": rows, "dev": rows})
    results._export(job, job.recipe.arm("mixed"), {name: {} for name in SCORES}, dict.fromkeys(SCORES, task))
    assert samples == [rows.texts_a[:32]] * 2
    assert written == {"job/export/books": "job/mixed_books", "job/export/dvd": "job/mixed_dvd"}


def test_an_arm_is_trained_whole_and_the_first_one_always():
    made = _domains_job("best").recipe
    assert made.baselines == ("mixed", "single")
    assert [stage.name for stage in made.chosen(())] == ["student_books", "student_dvd"]
    assert [stage.name for stage in made.chosen(["single"])][2:] == ["single_books", "single_dvd"]
    with pytest.raises(UserError, match=r"--compare has .*student.*; known: mixed, single"):
        made.chosen(["student"])
    titles = chosen.titles(made, made.chosen(["mixed"]))
    assert titles == {"student": "arm student", "mixed": "arm mixed"}
    with pytest.raises(UserError, match="--export='single' is not compared in this job; known: best, student, mixed"):
        chosen.check("single", titles)
