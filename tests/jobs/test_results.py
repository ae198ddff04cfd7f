"""What a job finds once its stages are trained: here the test scores of its seeds."""

from pathlib import Path
from types import SimpleNamespace

from ml_collections import ConfigDict

from codir_jax.jobs import recipe, results

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
