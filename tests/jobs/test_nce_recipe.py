"""The recipe of sentence scores: four arms of one size, one rule, one table."""

import json

import pytest

import codir_jax
from codir_jax.jobs import work as work_lib
from codir_jax.jobs.compress import compress
from codir_jax.processes.user_error import UserError

TINY = [("train.total_steps", "30"), ("data.sources", "demo:100"), ("data.batch_size", "8"), ("data.num_noise", "2")]


@pytest.mark.slow
def test_one_command_compares_scorers_of_one_size(tmp_path):
    results = compress(recipe="nce_lm", output=str(tmp_path / "job"), overrides=TINY)
    rows = results["models"]
    assert list(rows) == ["bi_mle", "uni_mle", "bi_residual", "bi_nce"]
    for name, row in rows.items():
        judged = json.loads((tmp_path / "job" / name / "results.json").read_text())
        assert row["dev"] == judged["dev"] and 0 <= row["test"]["noise_accuracy"] <= 1, name
        assert row["dev"]["ngram_choice_accuracy"] == rows["bi_mle"]["dev"]["ngram_choice_accuracy"]
    sizes = [row["parameters"] for row in rows.values()]
    assert max(sizes) < 1.1 * min(sizes)  # apart by the mixture of both sides
    best = max(rows, key=lambda name: rows[name]["dev"]["choice_accuracy"])
    assert results["exported"] == best
    assert codir_jax.load(results["export"]).score(["the cats sleep"])


@pytest.mark.slow
def test_text_that_changed_is_no_text_of_a_finished_job(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("the cats that the dog sees sleep\n" * 200)
    arguments = {"recipe": "nce_lm", "text": str(book), "output": str(tmp_path / "job"), "compare": ["bi_mle"]}
    few = [("train.total_steps", "2"), *TINY[2:]]
    compress(**arguments, overrides=few)
    book.write_text("a dog sees the cats\n" * 200)
    with pytest.raises(UserError, match="the data changed since"):
        compress(**arguments, overrides=few)
    other = {**arguments, "output": str(tmp_path / "other")}
    with pytest.raises(UserError):
        compress(**other, overrides=[*few, ("data.batch_size", "100000")])
    book.write_text("thou art\n" * 200)
    with pytest.raises(UserError):
        compress(**other, overrides=[*few, ("data.batch_size", "100000")])
    assert "thou" in (tmp_path / "other" / "tokenizer" / "tokenizer.json").read_text()


def test_what_it_cannot_do_is_told_first(tmp_path, monkeypatch):
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    arguments = {"recipe": "nce_lm", "output": str(tmp_path / "job"), "overrides": TINY}
    with pytest.raises(UserError, match="known: bi_mle, uni_mle, bi_residual"):
        compress(**arguments, compare=["trigram"])
    with pytest.raises(UserError, match="num_noise"):
        compress(**{**arguments, "overrides": [*TINY, ("bi_nce.data.num_noise", "0")]})
    assert not (tmp_path / "job").exists()
