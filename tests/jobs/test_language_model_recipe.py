"""The recipe of word language models: one command from text to a table of sizes and perplexities."""

import csv
import json
from pathlib import Path

import pytest

import codir_jax
from codir_jax.jobs import work as work_lib
from codir_jax.jobs.compress import compress
from codir_jax.processes.user_error import UserError

TINY = [("train.total_steps", "40"), ("student.hidden_size", "16"), ("data.sources", "demo:100")]
TINY += [("data.batch_size", "16"), ("data.eval_rows", "8")]
TINY += [("factored.compression.method", "rank4@.*embedding")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm") / "job"
    then = ["int8", "int4", "prune80", "rank4@.*embedding"]
    return folder, compress(recipe="language_model", output=str(folder), overrides=TINY, then=then)


@pytest.mark.slow
def test_a_table_of_everything(finished):
    folder, results = finished
    rows = results["models"]
    assert list(rows) == ["dense", "tuned", "pruned", "factored", "coded", "small", "taught", *results["then"]]
    lines = list(csv.DictReader((folder / "pareto.csv").open()))
    for line, (name, row) in zip(lines, rows.items(), strict=True):
        files = list(Path(row["folder"]).glob("*.safetensors"))
        assert int(line["bytes"]) == sum(path.stat().st_size for path in files), name
        assert line["name"] == name and float(line["test_bits_per_character"]) > 0
        assert float(line["batch_1_p50_ms"]) > 0 and float(line["batch_20_p50_ms"]) > 0
    assert rows["taught"]["parameters"] == rows["small"]["parameters"]
    assert rows["pruned"]["bytes"] < rows["prune80"]["bytes"] < 0.4 * rows["dense"]["bytes"]
    assert rows["factored"]["parameters"] == rows["rank4@.*embedding"]["parameters"] < rows["dense"]["parameters"]
    assert rows["dense"]["dev"]["perplexity"] == pytest.approx(rows["int8"]["dev"]["perplexity"], rel=0.01)
    # What was trained under compression and then stored is what was judged.
    for stage in ("pruned", "coded", "factored"):
        judged = json.loads((folder / stage / "results.json").read_text())["dev"]["perplexity"]
        again = codir_jax.evaluate(rows[stage]["folder"], f"{folder}/{stage}/config.json")["perplexity"]
        assert again == pytest.approx(judged, rel=1e-4)
    assert (folder / "pareto.csv").exists() and "bits per character" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_packed_models_score_and_predict(finished):
    folder, results = finished
    for name in ("int8", "rank4@.*embedding"):
        model = codir_jax.load(results["models"][name]["folder"])
        assert model.next_words("The", 3) and model.score(["The cats sleep."])
    assert codir_jax.load(str(folder / "export")).score(["The cats sleep."])


def test_what_it_cannot_do_is_told_first(tmp_path, monkeypatch):
    monkeypatch.setattr(work_lib, "train_stage", lambda *_: pytest.fail("something was trained"))
    arguments = {"recipe": "language_model", "output": str(tmp_path / "job")}
    with pytest.raises(UserError, match="changes none of"):
        compress(**arguments, then=["rank500"], overrides=TINY)
    with pytest.raises(UserError, match="the nearest is"):
        compress(**arguments, then=["int8"], overrides=[*TINY, ("pruned.compression.method", "prune80@decoder")])
    with pytest.raises(UserError, match="known: tuned, pruned, factored, coded, small, taught, trained_train"):
        compress(**arguments, compare=["tt"])
    with pytest.raises(UserError, match="expected a size"):
        compress(**arguments, max_bytes="small")
    assert not (tmp_path / "job").exists()
