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
    sizes = [row["parameters"] for row in rows.values()]
    assert max(sizes) < 1.1 * min(sizes)  # apart by the mixture of both sides
    best = min(rows, key=lambda name: rows[name]["dev"]["nce_loss"])
    assert results["exported"] == best
    assert codir_jax.load(results["export"]).score(["the cats sleep"])


def test_what_it_cannot_do_is_told_first(tmp_path, monkeypatch):
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    arguments = {"recipe": "nce_lm", "output": str(tmp_path / "job"), "overrides": TINY}
    with pytest.raises(UserError, match="known: bi_mle, uni_mle, bi_residual"):
        compress(**arguments, compare=["trigram"])
    with pytest.raises(UserError, match="num_noise"):
        compress(**{**arguments, "overrides": [*TINY, ("bi_nce.data.num_noise", "0")]})
    assert not (tmp_path / "job").exists()
