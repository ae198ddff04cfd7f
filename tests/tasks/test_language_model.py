"""Perplexity of a stream: by hand, whatever the windows, the rows that are padding and the devices."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.data import word_vocabulary
from codir_jax.evaluation import next_tokens
from codir_jax.models.heads import build_model, init_params
from codir_jax.models.language_model import decoder
from codir_jax.models.recurrence import zero_carry
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.objectives import language_model as objective
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.sharding.rules import unbox
from codir_jax.stage import config as stage_config
from codir_jax.tasks import language_model
from codir_jax.tasks.language_model import perplexities

WORDS = word_vocabulary.of_words([f"w{i}" for i in range(18)])


@functools.cache
def lines(seed, number):
    rng = np.random.default_rng(seed)
    return "".join(" ".join(f"w{i}" for i in rng.integers(0, 18, rng.integers(1, 6))) + "\n" for _ in range(number))


def opened(tmp_path, **changes):
    """The task of random words: 40 lines to train on, 17 held out."""
    config = stage_config.default_config(objective.default_config(), "language_model")
    for name, text in {"sources": lines(0, 40), "dev_sources": lines(1, 17)}.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
        config.data[name] = str(tmp_path / f"{name}.txt")
    config.data.update({"test_percent": 0.0, "cache_dir": str(tmp_path / "cache"), "num_workers": 1})
    config.data.update({"batch_size": 4, "max_length": 6, **changes})
    task = language_model.make(config, WORDS)
    task.open()
    return task


def model():
    config = LSTMConfig(20, 0, 6, initializer_range=1.0)
    module = build_model(config, "language_model")
    return module, unbox(init_params(module, jax.random.key(0)))


def scores(task, module, params, devices=1):
    layout = make_mesh({"data": devices, "fsdp": 1, "model": 1}, jax.devices()[:devices]), rules.RULES
    feed = task.feed(rules.batch_sharding(*layout))
    params = jax.device_put(params, rules.replicated(layout[0]))
    return task.examine(feed, module, params, layout).scores


def test_scores_are_those_of_one_pass_over_the_whole_text(tmp_path):
    module, params = model()
    task = opened(tmp_path)
    dev = task.streams.splits["dev"]
    ids = dev.read(-1, len(dev))[None]
    states = module.apply({"params": params}, *[ids[:, :-1]] * 3, method="states").states
    table, bias = decoder(params)
    shares = np.asarray(jax.nn.log_softmax(states @ table.T + bias), np.float64)[0]
    nats = -shares[np.arange(len(dev)), ids[0, 1:]].mean()
    found = scores(task, module, params)
    assert found["perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)
    assert found["tokens_scored"] == len(dev) == len(lines(1, 17).split()) + 17
    assert found["word_perplexity"] == found["perplexity"]  # a token is a word
    assert found["bits_per_character"] == pytest.approx(nats * len(dev) / math.log(2) / len(lines(1, 17)), rel=1e-5)
    # State lost between windows, or padding counted, would show.
    assert scores(opened(tmp_path, eval_length=7), module, params) == pytest.approx(found, rel=1e-5)
    assert scores(opened(tmp_path, eval_length=7), module, params, devices=4) == pytest.approx(found, rel=1e-5)
    rows = scores(opened(tmp_path, eval_rows=3), module, params)
    assert rows["tokens_scored"] == len(dev) and rows["perplexity"] != pytest.approx(found["perplexity"], rel=1e-5)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(tmp_path):
    module, params = model()
    task = opened(tmp_path)
    found = scores(task, module, jax.tree.map(jnp.zeros_like, params))
    assert found["perplexity"] == pytest.approx(20, rel=1e-5)
    assert "no better than a choice of 20 words" in task.weakness(found, None) or found["perplexity"] < 20
    assert not task.weakness({"perplexity": 19.9}, None)


def test_scores_per_token_per_word_and_per_character():
    counts = {"tokens": 8, "words": 4, "characters": 16, "lines": 1, "unknown": 0}
    found = perplexities(8 * math.log(2), counts)
    assert found["perplexity"] == pytest.approx(2)
    assert found["word_perplexity"] == pytest.approx(4)
    assert found["bits_per_character"] == pytest.approx(0.5)
    assert math.isfinite(perplexities(1e6, counts)["perplexity"])


def test_batches_of_training_have_every_token_and_the_shapes_of_the_example(tmp_path):
    task = opened(tmp_path)
    feed = task.feed(rules.batch_sharding(make_mesh({"data": 1, "fsdp": 1, "model": 1}, jax.devices()[:1])))
    found = list(feed.train_on_host(0, feed.steps_per_epoch, {}))
    shapes = {name: (x.shape, x.dtype) for name, x in feed.example().items()}
    assert all({name: (x.shape, x.dtype) for name, x in one.items()} == shapes for one in found)
    assert sum(int(one["attention_mask"].sum()) for one in found) == len(task.streams.splits["train"])
    assert feed.num_train == 4 * feed.steps_per_epoch and 0.8 < feed.real_token_share <= 1
    assert "vocabulary 20" in task.describe()


def test_a_split_that_cannot_be_is_refused(tmp_path):
    task = opened(tmp_path)
    with pytest.raises(UserError, match="--split=train; this model is judged on held-out text"):
        task.require_split("train")
    with pytest.raises(UserError, match=r"data.test_sources is empty and data.test_percent is 0"):
        task.require_split("test")
    assert task.is_judged_once("test") and not task.is_judged_once("dev")


def test_a_model_that_is_run_elsewhere_has_the_same_scores(tmp_path, monkeypatch):
    """It answers windows and says the state after them: `step` alone, a bounded number of logits at a time."""
    module, params = model()
    task = opened(tmp_path, eval_rows=3, eval_length=7)
    lengths = []

    def step(input_ids, state):
        lengths.append(input_ids.shape[1])
        state = zero_carry(module.config, len(input_ids)) if state is None else state
        output = module.apply({"params": params}, *[input_ids] * 3, carry=state, method="states")
        table, bias = decoder(params)
        return np.asarray(output.states @ table.T + bias), output.carry

    expected = scores(task, module, params)
    for max_logits in (next_tokens.MAX_LOGITS, 3 * 20 * 2):
        monkeypatch.setattr(next_tokens, "MAX_LOGITS", max_logits)
        assert task.scores_of("dev", types.SimpleNamespace(step=step)) == pytest.approx(expected, rel=1e-5)
    assert max(lengths) == 7 and min(lengths) == 1
