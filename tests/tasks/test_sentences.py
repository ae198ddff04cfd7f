"""Sentences with noise, end to end: batches as pure functions, ln Z by importance sampling, a run, its scores again."""

import json

import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.data.sentences import sentences as lib
from codir_jax.data.tokenizer import load_tokenizer
from codir_jax.jobs import scoring
from codir_jax.jobs.train import train
from codir_jax.main import main
from codir_jax.predict import load
from codir_jax.processes import distributed
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.tasks import sentences
from codir_jax.tasks.sentences import choice, log_normaliser

CONFIG = "configs/nce_lm/train.py:{},tiny"


def some_sentences(num=40, width=6, vocab_size=9):
    random = np.random.default_rng(0)
    lengths = random.integers(1, width + 1, num)
    words = random.integers(1, vocab_size, (num, width))
    return lib.Sentences(np.where(np.arange(width) < lengths[:, None], words, 0).astype(np.int32), lengths, 0, 0)


def test_a_batch_depends_on_seed_step_and_row_only():
    data = some_sentences()
    noise = lib.noise_of(data, 9, 2, 0.75)
    sizes = {"batch_size": 8, "num_noise": 3}
    whole = list(lib.train_batches(data, noise, seed=1, rows=range(8), start=0, stop=7, **sizes))
    halves = [
        list(lib.train_batches(data, noise, seed=1, rows=rows, start=0, stop=7, **sizes))
        for rows in (range(4), range(4, 8))
    ]
    resumed = list(lib.train_batches(data, noise, seed=1, rows=range(8), start=5, stop=7, **sizes))
    for step, batch in enumerate(whole):
        for name, column in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[step][name] for half in halves]), column)
            if step >= 5:
                np.testing.assert_array_equal(resumed[step - 5][name], column)
    first = {name: batch["input_ids"][:, 1:] for name, batch in (("step 0", whole[0]), ("step 1", whole[1]))}
    assert (first["step 0"] != first["step 1"]).any()  # fresh in each step
    mask, ids = whole[0]["attention_mask"], whole[0]["input_ids"]
    lengths = mask.sum(-1) - 1
    log_q = noise.log_q(ids[..., 1:].reshape(-1, 6), lengths.ravel()).reshape(8, 4)
    np.testing.assert_allclose(whole[0]["log_noise"], log_q, rtol=1e-6)
    np.testing.assert_array_equal(whole[0]["next_ids"][..., :-1], ids[..., 1:])
    seen = np.concatenate([batch["input_ids"][:, 0, 1:] for batch in whole[:5]])
    assert len(np.unique(seen, axis=0)) == len(np.unique(data.words, axis=0))  # an epoch has every sentence once


@pytest.mark.parametrize("arm", ["bi_nce", "uni_mle"])
def test_sentences_are_packed_on_one_process_and_noise_is_drawn_where_it_is_read(arm, monkeypatch):
    config = config_lib.load(CONFIG.format(arm))
    task = sentences.SentenceTask(config)
    task.sentences = {split: some_sentences() for split in ("train", "dev")}
    task.noise = lib.noise_of(task.sentences["train"], 9, 2, 0.75)
    feed = task.feed(rules.batch_sharding(make_mesh({"data": 8, "fsdp": 1, "model": 1})))
    (batch,), held_out = feed.train_on_host(0, 1, {}), next(feed.evaluation("dev"))
    k = config.data.num_noise
    assert batch["input_ids"].shape[1] == (1 + k if arm == "bi_nce" else 1) == 1 + feed.num_noise
    assert held_out["input_ids"].shape[1] == 1 + k
    for one in (batch, held_out):
        assert len(one["places"]) % 8 == 0 and (one["places"] >= 0).sum() == one["attention_mask"].sum()
    assert feed.real_token_share == batch["attention_mask"].sum() / batch["places"].size
    monkeypatch.setattr(distributed, "num_processes", lambda: 2)
    (batch,) = feed.train_on_host(0, 1, {})
    assert "places" not in batch and len(batch["input_ids"]) == config.data.batch_size // 2


def test_a_word_that_ends_with_a_mark_closes_a_sentence_within_a_line():
    tokens = np.array([1, 2, 3, 2, 0, 2, 0, 0, 4, 1, 2, 1, 0])

    class Text:
        eos_token_id = 0

        def __len__(self):
            return len(tokens)

        def read(self, start, stop):
            return tokens[start:stop]

    closing = np.arange(5) == 2
    found = lib.of_stream(Text(), 2, "train", closing)
    kept = [words[:length].tolist() for words, length in zip(found.words, found.lengths, strict=True)]
    assert kept == [[1, 2], [3, 2], [2], [1]] and found.num_left_out == 2  # the empty line, and "4 1 2"
    whole = lib.of_stream(Text(), 4, "train", closing & False)
    assert whole.lengths.tolist() == [4, 1, 4]


def test_log_z_of_a_scaled_noise_model_is_known():
    assert log_normaliser(np.full(50, -300.0)) == pytest.approx((-300.0, 50.0))
    log_z, effective = log_normaliser(np.log(np.array([1.0, 1.0, 4.0])))
    assert (log_z, effective) == pytest.approx((np.log(2.0), 36 / 18))


def test_the_choice_is_right_only_where_the_sentence_is_above_all_its_copies():
    lists = np.array([[3.0, 1.0, 2.0], [2.0, 2.0, 1.0], [np.nan, 1.0, 2.0], [3.0, np.nan, 1.0], [1.0, 0.0, 0.5]])
    assert choice(lists) == 2 / 5


def test_a_run_without_lists_is_judged_by_its_loss(tmp_path):
    few = [("data.num_lists", "0"), ("train.total_steps", "2"), ("train.eval_every_percent", "100")]
    results = train(config_lib.load(CONFIG.format("uni_mle"), overrides=few), tmp_path / "run")
    assert results["primary_metric"] == "nce_loss" and "choice_accuracy" not in results["dev"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Workdir of a finished tiny run of the residual form, which has all parts."""
    workdir = tmp_path_factory.mktemp("residual")
    results = train(config_lib.load(CONFIG.format("bi_residual")), workdir / "run")
    return workdir / "run", results


def test_a_run_learns_more_than_its_noise_and_is_loaded_to_the_last_bit(trained):
    workdir, results = trained
    k = 4
    at_noise = np.log(1 + k) + k * np.log(1 + 1 / k)
    assert results["dev"]["nce_loss"] < at_noise - 1e-3  # untrained, it is at_noise exactly
    assert results["primary_metric"] == "choice_accuracy"
    assert 0 <= results["dev"]["choice_accuracy"] <= 1
    task = sentences.make(config_lib.load(str(workdir / "config.json")), load_tokenizer(str(workdir / "best")))
    task.open()
    lists = list(task.feed(rules.batch_sharding(make_mesh({"data": 8, "fsdp": 1, "model": 1}))).lists("dev"))
    log_q = np.concatenate([batch["log_noise"][batch["example_mask"] > 0] for batch in lists])
    assert results["dev"]["ngram_choice_accuracy"] == choice(log_q) > 0.1
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert any("saturated" in row for row in logged)
    texts = ["the queen who admires the uncle faints.", "uncle the the queen", "zebra"]
    first, again = (load.load_scorer(str(workdir)).score(texts) for _ in range(2))
    assert first == again
    alone = [load.load_scorer(str(workdir), batch_size=1).score([text])[0].log_score for text in texts]
    np.testing.assert_allclose([one.log_score for one in first], alone, rtol=1e-5)
    assert [one.num_words for one in first] == [7, 4, 1] and first[2].num_unknown == 1
    model = load.load_scorer(str(workdir))
    assert not model.is_probability
    log_z, effective = model.log_z(500)
    assert np.isfinite(log_z) and 1 <= effective <= 500


def test_score_and_rescore_write_whole_files_and_tell_bad_lines(trained, tmp_path, capsys):
    workdir, _ = trained
    good = tmp_path / "good.txt"
    good.write_text("the queen faints.\nqueen\n" + "the " * 1000 + "\nzebra zebu\n")
    output = tmp_path / "scores.tsv"
    assert main(["score", f"--model={workdir}", f"--input={good}", f"--output={output}"]) == 0
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert len(rows) == 5 and [row[2] for row in rows[1:]] == ["3", "1", "1000", "2"] and rows[4][3] == "2"
    assert "not log probabilities" in "".join(capsys.readouterr())
    for content, word in (
        (b"the cats\n\nsleep\n", "2"),
        (b"the\0cats\n", "NUL"),
        (b"a\n\xff\xfe\n", "UTF-8"),
        (b"", "no sentence"),
    ):
        bad = tmp_path / "bad.txt"
        bad.write_bytes(content)
        with pytest.raises(UserError, match=word):
            scoring.score(str(workdir), str(bad), str(tmp_path / "x.tsv"), text_column="sentence", batch_size=4)
        assert not (tmp_path / "x.tsv").exists()
    lists = tmp_path / "lists.jsonl"
    lists.write_text(json.dumps({"id": "a", "candidates": ["queen the the", "the queen smiled"], "gold": 1}) + "\n")
    best = tmp_path / "best.jsonl"
    assert main(["rescore", f"--model={workdir}", f"--input={lists}", f"--output={best}", f"--tune_on={lists}"]) == 0
    row = json.loads(best.read_text())
    assert sorted(row["ranked"]) == ["queen the the", "the queen smiled"] and row["best"] == row["ranked"][0]
    assert {"model_weight", "length_weight", "wer"} <= set(
        json.loads((tmp_path / "best.jsonl.weights.json").read_text())
    )
    lists.write_text('{"id": "a", "candidates": ["x", "y"]}\n')
    with pytest.raises(UserError, match="'a' has no reference"):
        scoring.rescore(
            str(workdir),
            str(lists),
            str(tmp_path / "y.jsonl"),
            reference="",
            tune_on=str(lists),
            tune_reference="",
            weights=None,
            batch_size=4,
        )


@pytest.mark.parametrize("arm", ["bi_nce", "bi_mle", "uni_mle"])
@pytest.mark.slow
def test_every_arm_trains(arm, tmp_path):
    results = train(config_lib.load(CONFIG.format(arm)), tmp_path / "run")
    assert all(np.isfinite(value) for value in results["dev"].values())
