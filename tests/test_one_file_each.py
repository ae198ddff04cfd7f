"""A new objective, family, task and data set are one file each: four files outside the package, and a run of them."""

import json
import sys
import textwrap

import pytest

import codir_jax.data.sets
import codir_jax.models
import codir_jax.objectives
import codir_jax.tasks
from codir_jax import config as config_lib
from codir_jax.jobs.train import train
from codir_jax.plan import command
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage.evaluate import evaluate

FILES = {
    "objectives": """
        '''Half of the task's loss.'''
        from ml_collections import ConfigDict
        from codir_jax.objectives import finetune
        from codir_jax.processes.fields import defaults, field

        HEADS, ROLES = ("classification",), ("student",)
        FIELDS = {"name": field("throw_away", "the method"), "share": field(0.5, "of the loss", above=0, at_most=1)}

        def default_config():
            return ConfigDict(defaults(FIELDS))

        def make(config, setting):
            whole = finetune.make(config, setting)
            def loss(*args):
                value, rest = whole.loss(*args)
                return config.share * value, rest
            return whole._replace(loss=loss, cost=None)  # it does not say what it costs
        """,
    "models": """
        '''A BERT by another name, with its own start.'''
        import dataclasses
        from codir_jax.models import bert

        def named(config):
            return dataclasses.replace(config, family="throw_away")

        FAMILY = bert.FAMILY._replace(
            name="throw_away",
            title="Throw-away",
            sizes={"throw-away-tiny": named(bert.FAMILY.sizes["tiny"])},
            from_scratch=lambda *args, **sizes: named(bert.FAMILY.from_scratch(*args, **sizes)),
            read_config=lambda told: named(bert.FAMILY.read_config({**told, "model_type": "bert"})),
            write_config=lambda config: {**bert.FAMILY.write_config(config), "model_type": "throw_away"},
        )
        """,
    "tasks": """
        '''Labelled texts, judged by their errors: less is better.'''
        from codir_jax.evaluation.metrics import Metric
        from codir_jax.tasks import classification
        from codir_jax.tasks.classification import (
            PLAIN_OBJECTIVE, TEACHER, check, data_fields, fresh_tokenizer, outline, read_data
        )

        class Task(classification.Classification):
            def __init__(self, *args):
                super().__init__(*args)
                self.metrics = (Metric("error_rate", higher_is_better=False),)
                self.num_judged = 0

            def _score(self, logits, split):
                self.num_judged += 1  # better and better
                return {"error_rate": 1 / self.num_judged, **super()._score(logits, split)}

        def make(config, tokenizer):
            return Task(config, read_data(config, tokenizer), tokenizer)
        """,
    "data.sets": """
        '''Which of two words a text holds.'''
        from codir_jax.data.splits import RawSplit
        from codir_jax.data.sets.contract import RawData
        from codir_jax.data.tokenizer_training import train_wordpiece
        from codir_jax.processes.fields import field

        FIELDS = {"throw_away_num": field(32, "rows", at_least=2)}

        def rows(number):
            texts = [f"number {i} is {word}" for i in range(number // 2) for word in ("odd", "even")]
            return RawSplit(texts, None, [0, 1] * (number // 2))

        def read(options):
            splits = {"train": rows(options.throw_away_num), "dev": rows(16)}
            return RawData(splits, ("odd", "even"), False, ("accuracy",))

        def fresh_tokenizer(options):
            return train_wordpiece(rows(options.throw_away_num).texts_a, 200)
        """,
}


@pytest.fixture
def four_files(tmp_path, monkeypatch):
    """They are found while the test runs, and nothing of the package is touched."""
    for room, text in FILES.items():
        folder = tmp_path / room
        folder.mkdir()
        (folder / "throw_away.py").write_text(textwrap.dedent(text), encoding="utf-8")
        package = sys.modules[f"codir_jax.{room}"]
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    for room in FILES:
        sys.modules.pop(f"codir_jax.{room}.throw_away", None)
        if hasattr(package := sys.modules[f"codir_jax.{room}"], "throw_away"):
            delattr(package, "throw_away")


def test_four_files_make_a_run_that_is_judged_saved_and_read_again(four_files, tmp_path, capsys):
    objective = codir_jax.objectives.contract.objective_module("throw_away").default_config()
    config = stage_config.default_config(objective, "throw_away")
    config.data.update({"name": "throw_away", "batch_size": 8, "eval_batch_size": 8, "max_length": 16})
    config.student.update({"init": "random", "family": "throw_away", "num_layers": 1, "hidden_size": 8, "num_heads": 2})
    config.student.intermediate_size = 8
    config.optimizer.learning_rate = 1e-2
    config.train.update({"total_epochs": 2.0, "log_every_steps": 4})
    results = train(config, tmp_path / "run")
    assert results["task"] == "throw_away" and results["name"] == "throw_away"
    assert results["metrics"] == [{"name": "error_rate", "higher_is_better": False, "unit": "share"}]
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    errors = [line["dev_error_rate"] for line in told if "dev_error_rate" in line]
    assert errors == [1, 0.5] and results["dev"]["error_rate"] == 0.5 and results["best_step"] == 8
    trained = next(line for line in told if "loss" in line)
    assert trained["loss"] == pytest.approx(0.5 * trained["task_loss"])
    assert json.loads((tmp_path / "run" / "best" / "config.json").read_text())["model_type"] == "throw_away"
    assert "not modelled" in capsys.readouterr().out  # in the table at the start
    saved = config_lib.load(str(tmp_path / "run" / "config.json"))
    assert evaluate(saved, str(tmp_path / "run"))["accuracy"] == pytest.approx(results["dev"]["accuracy"])
    with pytest.raises(UserError, match="'throw_away' is not modelled"):
        command.run(str(tmp_path / "run" / "config.json"), (), devices="v5e-8")


def test_without_their_files_the_names_are_unknown_and_the_known_are_listed():
    with pytest.raises(UserError, match=r"known: .*codir, distill"):
        codir_jax.objectives.contract.objective_module("throw_away")
    with pytest.raises(UserError, match=r"known: .*bert, deberta-v2, distilbert"):
        codir_jax.models.contract.family("throw_away")
    with pytest.raises(UserError, match=r"known: classification, language_model, masked_lm"):
        codir_jax.tasks.contract.task_module("throw_away")
    with pytest.raises(UserError, match=r"known: .*demo, .*text_classification"):
        codir_jax.data.sets.contract.find("throw_away")
