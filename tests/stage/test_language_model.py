"""A stage on a token stream as a user runs it: train, resume with the carried state, judge, export, serve, refusals."""

import json
import math

import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import pretrained
from codir_jax.jobs.export import export_model
from codir_jax.predict.load import load
from codir_jax.processes.user_error import UserError
from codir_jax.stage import run
from codir_jax.stage.evaluate import evaluate
from codir_jax.training import loop
from tests import commands
from tests.stage.test_run import _assert_same_end, _stop_after

CONFIG = "configs/rnn_lm/train.py:tiny"
# Five steps an epoch: the state goes on at step 3 and 8, and begins anew at step 5.
SMALL = [
    ("data.sources", "demo:24"),
    ("data.batch_size", "16"),
    ("student.hidden_size", "8"),
    ("train.total_steps", "8"),
    ("train.log_every_steps", "4"),
    ("train.eval_every_steps", "8"),
    ("train.checkpoint_every_steps", "4"),
]


def config(*overrides):
    return config_lib.load(CONFIG, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language_model")
    run.run(config(("student.dropout", "0.2")), folder)
    return folder


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    assert "0.00e+00 re-read" in export_model(str(trained), str(folder))
    return folder


def test_a_run_stopped_in_an_epoch_and_resumed_ends_bit_equal_with_its_state(trained, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _stop_after(patch, 3)
        with pytest.raises(loop.Interrupted, match="after step"):
            run.run(config(("student.dropout", "0.2")), tmp_path)
    run.run(config(("student.dropout", "0.2")), tmp_path)
    _assert_same_end(trained, tmp_path)


def test_an_export_has_the_perplexity_of_the_run_to_the_last_bit(trained, exported):
    told = json.loads((trained / "results.json").read_text())
    assert told["primary_metric"] == "perplexity" and told["best_step"] == 8
    assert 1 < told["dev"]["perplexity"] < told["vocab_size"]
    saved = config_lib.load(str(trained / "config.json"))
    assert evaluate(saved, str(exported), "dev") == told["dev"]
    assert evaluate(saved, str(exported), "test")["perplexity"] != told["dev"]["perplexity"]
    card = (exported / "README.md").read_text()
    assert "library_name: codir_jax" in card and "At most" not in card
    assert pretrained.stored_head(exported) == "language_model"


def test_a_sentence_has_the_score_of_its_words(exported):
    model = load(str(exported))
    texts = ["the cats sleep", "the zebra", "", "the  cats sleep", "The dogs that the cat sees sleep."]
    scores = model.score(texts)
    assert [one.num_words for one in scores] == [3, 2, 0, 3, 7]
    assert scores[1].num_unknown >= 1 and scores[0] == scores[3]
    for one in scores:
        assert one.log_score < 0 and one.per_word == pytest.approx(one.log_score / (one.num_words + 1))
    # Alone, or beside longer ones, a sentence has the same score.
    assert model.score(texts[:1])[0].log_score == pytest.approx(scores[0].log_score, rel=1e-6)
    # The chain rule: what a word adds is its probability after the words before.
    ((word, share),) = model.next_words("the", 1)
    longer, shorter = (
        score.log_score - _end(model, text)
        for text, score in zip((f"the {word}", "the"), model.score([f"the {word}", "the"]), strict=True)
    )
    assert longer - shorter == pytest.approx(math.log(share), rel=1e-5)


def _end(model, prefix):
    """ln P(end of the sentence), by the model's own softmax."""
    ids = model._read(prefix)[0][:-1]
    inputs = np.full((1, len(ids) + 1), 0, np.int32)
    inputs[0, 1:] = ids
    return math.log(float(model._next(model._params, inputs, np.ones_like(inputs))[0, 0]))


def test_next_words_are_the_likeliest_ones_and_no_specials(exported):
    model = load(str(exported))
    words = model.next_words("", 5)
    shares = [share for _, share in words]
    assert len(words) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1
    assert not {"<eos>", "<unk>"} & dict(words).keys()
    with pytest.raises(UserError, match="at least 1 next word"):
        model.next_words("the", 0)
    with pytest.raises(UserError, match="expected a list of sentences"):
        model.score("the cats")
    with pytest.raises(UserError, match="expected a sentence, got"):
        model.score(["a\0b"])


def test_what_cannot_be_is_refused_before_training(tmp_path):
    text = tmp_path / "one.txt"
    text.write_text("one line", encoding="utf-8")
    for overrides, message in (
        ([("data.sources", str(text))], "tokenizer_path is empty"),
        ([("student.hidden_size", "0")], r"needs student.hidden_size"),
        ([("student.num_heads", "2")], "student.num_heads=2, but long short-term memory"),
        ([("student.remat", "block")], "remat='block' is of transformers"),
        ([("objective.name", "masked_lm")], "trains a masked_lm head, and the task has a language_model head"),
        ([("student.tie_embeddings", "True"), ("student.embedding_size", "4")], "tied embeddings need"),
    ):
        with pytest.raises(UserError, match=message):
            run.run(config(*overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_characters_and_pieces_go_the_same_way(tmp_path):
    from codir_jax.main import main

    for kind in ("character", "byte_level_bpe"):
        tokenizer = tmp_path / kind
        size = "--vocab_size=400"
        assert main(["tokenizer", "--sources=demo:24", f"--kind={kind}", size, f"--output={tokenizer}"]) == 0
        found = run.run(config(("tokenizer_path", str(tokenizer))), tmp_path / f"run-{kind}")["dev"]
        assert found["word_perplexity"] > found["perplexity"] > 1
        model = load(str(tmp_path / f"run-{kind}"))
        assert model.score(["the cats sleep"])[0].num_words == 3 and len(model.next_words("the c", 3)) == 3


@pytest.mark.slow
def test_two_processes_train_stop_and_go_on_like_one(tmp_path):
    """Two of four devices, stopped in an epoch, ended by one of eight, against this one; each has its own tokens."""
    commands.assert_two_go_on_like_one(CONFIG, dict(SMALL), tmp_path)
