"""The report of results that were made up: contents, cost, and the sentence on noise. Nothing is trained."""

import json

import pytest

from codir_jax.jobs import figures, over_seeds, report, verdict
from codir_jax.jobs.command_line import command_of
from codir_jax.jobs.compress import compress
from codir_jax.processes.user_error import UserError


def _row(title, score, ms, size):
    latency = {"batch_1_p50_ms": ms / 20, "batch_32_p50_ms": ms}
    row = {"title": title, "num_layers": 2, "dev": {"accuracy": score}, "parameters": size, "bytes": 4 * size}
    return row | {"latency": latency, "speed_up": 64 / ms, "dominated_by": "", "folder": "f"}


ARMS = {
    "num_rows": 50,
    "over": "the 50 rows",
    "by_arm": {
        "student": {"title": "ours", "by_domain": {"books": 0.75}, "score": 0.75, "low": 0.7, "high": 0.8},
        "mixed": {"title": "theirs", "by_domain": {"books": 0.7}, "score": 0.7, "low": 0.6, "high": 0.75},
    },
}
ARMS["by_arm"]["student"]["difference"] = None
ARMS["by_arm"]["mixed"]["difference"] = {"mean": -0.05, "low": -0.09, "high": -0.01, "sd": 0.02, "n": 500}


def _results(**changes):
    models = {
        "teacher": _row("teacher", 0.9, 64.0, 2_000_000),
        "finetune": _row("student, fine-tuning", 0.8, 32.0, 1_000_000),
        "codir": _row("student, CoDIR", 0.85, 32.0, 1_000_000),
    }
    gap = {"mean": 0.05, "low": 0.01, "high": 0.09, "sd": 0.02, "n": 500}
    by_model = {name: {"interval": [0.7, 0.95], "classes": []} for name in models}
    by_model["codir"]["difference"] = gap
    answers = {"num_rows": 200, "label_names": [], "bar": None, "by_model": by_model, "confused": {}}
    for own in by_model.values():
        own["quarters"] = [{"from": 0.0, "to": 1.0, "error": 0.25}]
    results = {
        "recipe": "Compression",
        "given": "roberta",
        "task": "<b>train.tsv</b>",
        "num_examples": {"train": 1000, "dev": 200},
        "primary_metric": "accuracy",
        "metrics": [{"name": "accuracy", "higher_is_better": True}],
        "main": "codir",
        "baseline": "finetune",
        "baseline_offered": "finetune",
        "exports": [],
        "then": [],
        "also": [],
        "latency_batch": 32,
        "models": models,
        "answers": answers,
        "arms": {},
        "seeds": [0],
        "over_seeds": {},
        "over_seeds_on_test": {},
        "export": "runs/export",
        "exported": "codir",
        "why_exported": "student, CoDIR, the best",
        "parity": "parity passed",
        "price_per_hour": None,
        "seconds": 60.0,
        "seed": 0,
        "command": "codir compress --output=runs",
        "versions": {"python": "3.11"},
        "git_commit": None,
        "devices": "1 x cpu",
    }
    results |= changes
    return results | {"verdict": verdict.sentence(results)}


def test_the_page_tells_models_cost_and_origin_and_needs_no_other_file(tmp_path):
    (tmp_path / "codir").mkdir()
    lines = [{"step": step, "loss": 1.0 / step, "dev_accuracy": 0.1 * step} for step in (1, 2)]
    (tmp_path / "codir" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report.write(tmp_path, _results(price_per_hour=3.6))
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "&lt;b&gt;train.tsv" in page and "<b>" not in page and "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/svg+xml;base64") == 2 == text.count("](figures/")
    # 32 texts take 32 ms: a million take 1,000 s, at 3.6 an hour 1.
    row = next(line for line in text.splitlines() if line.startswith("| student, CoDIR"))
    assert [cell.strip() for cell in row.split("|")][2:-1] == [
        "2", "0.8500", "1.00 M", "3.8 MiB", "1.60", "32.0", "2.00x", "1"
    ]  # fmt: skip
    for told in ("codir compress --output=runs", "train 1,000, dev 200", "python 3.11", "0.25"):
        assert told in text and told in page


def test_the_page_tells_whether_the_terms_had_something_to_teach(tmp_path):
    (tmp_path / "codir").mkdir()
    lines = [
        {"step": step, "loss": 1.0, "retrieval_rate": 0.4 * step, "gradient_norm_task_loss": 2.0} for step in (1, 2)
    ]
    (tmp_path / "codir" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = {
        "nothing_to_teach_since": {"retrieval_rate": 2},
        "num_steps": 2,
        "learning_rate": 2e-4,
        "best_step": 2,
        "seconds": 1.0,
    }
    (tmp_path / "codir" / "results.json").write_text(json.dumps(run))
    (tmp_path / "codir" / "config.json").write_text("{}")
    assert figures.health(tmp_path / "health.svg", tmp_path / "codir")
    drawn = (tmp_path / "health.svg").read_text()  # matplotlib tells each text in a comment
    for told in ("What a term still has to teach", "Gradients of the terms", "retrieval rate"):
        assert told in drawn
    assert "Similarity distributions" not in drawn
    page = report.contents(tmp_path, _results(), has_trade=False, has_health=True)
    told = [block.text for block in page if getattr(block, "path", "").endswith("health.svg")]
    assert told == ["By retrieval rate a term of student, CoDIR has had nothing to teach since step 2."]
    assert not figures.health(tmp_path / "none.svg", tmp_path / "finetune")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {},
            "+0.0500, 95 % interval +0.0100 to +0.0900 (over the 200 rows, paired bootstrap), so it is better by more",
        ),
        ({"metrics": [{"name": "accuracy", "higher_is_better": False}]}, "so it is worse by more than that noise"),
        ({"exported": "finetune"}, "student, CoDIR minus student, fine-tuning"),
        ({"baseline": ""}, "not measured: --compare=finetune"),
        ({"baseline": "", "baseline_offered": ""}, "no plain training to compare"),
        ({"answers": None}, "no rows of dev"),
        ({"exports": ["books"]}, "Each domain has models of its own, and no rows of dev"),
        ({"exports": ["books"], "arms": ARMS}, "theirs -0.0500 (-0.0900 to -0.0100, worse). What another seed would"),
        (
            {"over_seeds": {"codir": {"difference": {"mean": 0.01, "sd": 0.01, "low": -0.01, "high": 0.03, "n": 3}}}},
            "(over 3 seeds, paired), so it is no more than noise.",
        ),
        (
            {
                "over_seeds": {"codir": {"difference": {"mean": 0.01, "sd": 0.01, "low": -0.01, "high": 0.03, "n": 3}}},
                "over_seeds_on_test": {
                    "codir": {"difference": {"mean": 0.02, "sd": 0.01, "low": 0.01, "high": 0.03, "n": 3}}
                },
            },
            "test accuracy: +0.0200, 95 % interval +0.0100 to +0.0300 (over 3 seeds, paired), so it is better",
        ),
    ],
)
def test_one_sentence_says_whether_it_is_more_than_noise(changes, told):
    assert told in _results(**changes)["verdict"]


def test_a_job_of_domains_has_a_table_of_its_arms(tmp_path):
    report.write(tmp_path, _results(exports=["books"], arms=ARMS))
    lines = (tmp_path / "report.md").read_text().splitlines()
    table = [
        [cell.strip() for cell in line.split("|")][1:-1] for line in lines if line.startswith(("| ours", "| theirs"))
    ]
    assert table == [
        ["ours", "0.7500", "0.7500", "0.7000 to 0.8000", ""],
        ["theirs", "0.7000", "0.7000", "0.6000 to 0.7500", "-0.0500 (-0.0900 to -0.0100)"],
    ]


def test_a_teacher_that_is_no_better_than_plain_fine_tuning_is_told():
    assert "nothing to teach" not in verdict.told(_results())
    models = _results()["models"]
    models["teacher"]["dev"] = {"accuracy": 0.79}
    told = verdict.told(_results(models=models))
    assert "The teacher, 0.7900, is no better on dev than student, fine-tuning, 0.8000" in told
    over_seeds = {"finetune": {"mean": 0.7}, "codir": {}}
    assert "nothing to teach" not in verdict.told(_results(models=models, over_seeds=over_seeds))
    assert "nothing to teach" not in verdict.told(_results(models=models, baseline=""))
    less = [{"name": "accuracy", "higher_is_better": False}]
    assert "nothing to teach" not in verdict.told(_results(models=models, metrics=less))


def test_of_several_seeds_means_intervals_and_paired_differences_are_told(tmp_path):
    """Differences .1, .2, .3: mean .2, sd .1, t(2, 0.975) = 4.30265."""
    titles = {"finetune": "plain", "codir": "ours"}
    found = over_seeds.table(titles, {"finetune": [0.5, 0.6, 0.4], "codir": [0.6, 0.8, 0.7]}, "finetune")
    gap = found["codir"]["difference"]
    assert gap["mean"] == pytest.approx(0.2) and gap["high"] - 0.2 == pytest.approx(0.430265 / 3**0.5, rel=1e-5)
    assert found["codir"]["mean"] == pytest.approx(0.7) and "difference" not in found["finetune"]
    report.write(tmp_path, _results(over_seeds=found, over_seeds_on_test=found, seeds=[0, 1, 2]))
    text = (tmp_path / "report.md").read_text()
    assert "test is looked at once" in text and text.count("0.6000 0.8000 0.7000") == 2  # dev and test
    assert "## Over 3 seeds" in text and "+0.2000 (-0.0484 to +0.4484)" in text and "0.6000 0.8000 0.7000" in text


def test_seeds_that_were_begun_stay_part_of_a_job(tmp_path):
    assert over_seeds.of_job(3, 2, tmp_path, []) == (3, 4)
    (tmp_path / "seeds" / "6").mkdir(parents=True)
    assert over_seeds.of_job(3, 1, tmp_path, []) == (3, 4, 5, 6)
    assert over_seeds.place(tmp_path, 3, 3) == tmp_path and over_seeds.place(tmp_path, 4, 3) == tmp_path / "seeds" / "4"
    for seeds, changes, message in ((0, [], "must be 1 or more"), (2, [("codir.seed", "1")], "both say which seeds")):
        with pytest.raises(UserError, match=message):
            over_seeds.of_job(0, seeds, tmp_path / "other", changes)


def test_the_command_of_a_job_names_what_is_not_default():
    given = {
        "teacher": "", "train": "my file.tsv", "dev": "", "output": "runs/a", "layers": 6, "demo": False,
        "regression": True, "compare": ("finetune", "l2"), "seeds": 1, "overrides": [("train.total_epochs", "3")],
    }  # fmt: skip
    import inspect

    arguments = {name: one.default for name, one in inspect.signature(compress).parameters.items()} | given
    assert command_of("compress", compress, arguments) == (
        "codir compress '--train=my file.tsv' --output=runs/a --layers=6 --regression --compare=finetune,l2 "
        "--config.train.total_epochs=3"
    )
    assert "--train=(a dict in memory)" in command_of("compress", compress, arguments | {"train": {"sentence": []}})
