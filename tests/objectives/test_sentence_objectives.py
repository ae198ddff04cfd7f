"""Objectives over sentences and sampled words: the start, a re-derivation by hand, one device and eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.data.sentences import sentences as lib
from codir_jax.models.heads import build_model
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.objectives import sentence_likelihood, sentence_nce, transform, word_nce
from codir_jax.objectives.contract import Setting, Step
from codir_jax.objectives.heads.language_model import LanguageModel
from codir_jax.objectives.heads.sentence_score import SentenceScore
from codir_jax.processes import fields
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from tests.objectives import tiny

VOCAB, K = 9, 3
UNIGRAM = np.arange(1, VOCAB + 1) / np.arange(1, VOCAB + 1).sum()


def sentence_batch(rows=8, width=5, parts=0):
    random = np.random.default_rng(0)
    lengths = random.integers(1, width + 1, rows)
    words = np.where(np.arange(width) < lengths[:, None], random.integers(1, VOCAB, (rows, width)), 0)
    data = lib.Sentences(words.astype(np.int32), lengths, 0, 0)
    noise = lib.noise_of(data, VOCAB, 2, 0.75)
    batch = lib.batch_of(data, np.arange(rows), noise, K, [(0, 0, row) for row in range(rows)], parts)
    batch["example_mask"][-1] = 0.0
    return batch


def test_the_noise_of_a_held_out_sentence_depends_on_no_batch():
    words = np.random.default_rng(0).integers(1, VOCAB, (11, 5)).astype(np.int32)
    data = lib.Sentences(words, np.full(11, 5), 0, 0)
    noise = lib.noise_of(data, VOCAB, 2, 0.75)

    def of(size):
        batches = lib.held_out_batches(data, noise, batch_size=size, num_noise=K, rows=range(size))
        return np.concatenate([batch["input_ids"] for batch in batches])[:11]

    np.testing.assert_array_equal(of(4), of(6))


def made(module, batch, *, head="sentence_score", config=None, method="", num_microbatches=1, **sizes):
    model = build_model(LSTMConfig(VOCAB, 0, 4, 1, embedding_size=4, initializer_range=0.5, **sizes), head)
    kind = {"sentence_score": SentenceScore, "language_model": LanguageModel}[head]()
    setting = Setting(head=kind, student=model, unigram=UNIGRAM, num_microbatches=num_microbatches)
    objective = module.make(config or module.default_config(), setting)
    compression = transform.default_config()
    compression.method = method
    objective = transform.with_transform(objective, compression)
    return model, objective, tiny.start(objective, batch)


def run(objective, parts, batch, rng=None):
    params, frozen, state = parts
    return jax.jit(jax.value_and_grad(objective.loss, has_aux=True))(params, frozen, state, batch, Step(rng))


def test_a_residual_score_starts_as_the_noise():
    batch = sentence_batch()
    _, objective, parts = made(sentence_nce, batch, bidirectional=True, unnormalised=True, residual=True)
    (loss, (_, metrics)), gradient = run(objective, parts, batch)
    np.testing.assert_allclose(loss, np.log(1 + K) + K * np.log(1 + 1 / K), rtol=1e-6)
    assert metrics["saturated"][0] == 0 and metrics["sentence_nce_loss"][1] == 7
    assert np.abs(gradient["student"]["output_embedding"]).max() > 0


@pytest.mark.slow
def test_an_unnormalised_score_starts_near_the_frequencies_and_its_loss_is_that_of_the_formula():
    batch = sentence_batch()
    model, objective, parts = made(sentence_nce, batch, bidirectional=True, unnormalised=True)
    student = parts[0]["student"]
    np.testing.assert_allclose(student["output_bias"], np.log(UNIGRAM), rtol=1e-6)
    (loss, _), _ = run(objective, parts, batch)
    losses = []
    for row in range(7):
        terms = []
        for text in range(1 + K):
            n = batch["attention_mask"][row, text].sum()
            ids, following = batch["input_ids"][row, text, :n][None], batch["next_ids"][row, text, :n]
            logits = np.asarray(model.apply({"params": student}, ids, ids * 0 + 1, ids * 0).logits[0], np.float64)
            gap = logits[np.arange(n), following].sum() - batch["log_noise"][row, text] - np.log(K)
            terms.append(np.log1p(np.exp(-gap if text == 0 else gap)))
        losses.append(sum(terms))
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("both", [False, True])
def test_the_likelihood_is_the_sum_of_log_probabilities_and_sees_no_noise(both):
    batch = sentence_batch()
    _, objective, parts = made(sentence_likelihood, batch, bidirectional=both)
    (loss, (_, metrics)), _ = run(objective, parts, batch)
    total, tokens = metrics["nats_per_token"]
    assert tokens == batch["attention_mask"][:7, 0].sum()
    np.testing.assert_allclose(loss, total / 7, rtol=1e-6)
    other = {**batch, "input_ids": batch["input_ids"].copy()}
    other["input_ids"][:, 1:] = 1
    np.testing.assert_array_equal(run(objective, parts, other)[0][0], loss)
    with pytest.raises(UserError, match="no likelihood"):
        made(sentence_likelihood, batch, unnormalised=True)


def word_batch(rows=8, length=6):
    random = np.random.default_rng(1)
    tokens = random.integers(0, VOCAB, (rows, length + 1)).astype(np.int32)
    batch = {"input_ids": tokens[:, :-1], "next_ids": tokens[:, 1:], "token_type_ids": tokens[:, :-1] * 0}
    batch["attention_mask"] = np.ones((rows, length), np.int32)
    return batch | {"is_start": np.ones(rows, np.float32), "example_mask": np.ones(rows, np.float32)}


@pytest.mark.parametrize("loss", ["nce", "sampled_softmax"])
def test_many_noise_words_give_the_gradient_of_the_full_softmax(loss):
    # The gradient of both tends to that of maximum likelihood; of NCE where its scores are normalised.
    batch = word_batch()
    config = word_nce.default_config()
    config.update({"loss": loss, "num_noise": 20_000})
    _, objective, parts = made(word_nce, batch, head="language_model", config=config)
    student = parts[0]["student"]
    norm = np.log(VOCAB)
    np.testing.assert_allclose(student["output_bias"], np.log(UNIGRAM) + norm, rtol=1e-5)
    student = {**student, "output_embedding": student["output_embedding"] * 0}  # then s = ln q, normalised
    parts = ({"student": student}, *parts[1:])
    (_, (_, metrics)), gradient = run(objective, parts, batch, jax.random.key(3))
    np.testing.assert_allclose(metrics["ln_z"][0] / metrics["ln_z"][1], 0.0, atol=1e-5)
    counts = np.bincount(batch["next_ids"].ravel(), minlength=VOCAB)
    expected = (counts.sum() * UNIGRAM - counts) / len(batch["next_ids"])
    np.testing.assert_allclose(gradient["student"]["output_bias"], expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (sentence_nce, {"bidirectional": True, "unnormalised": True}),
        (sentence_likelihood, {"bidirectional": True}),
        (sentence_likelihood, {}),
    ],
)
@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_packed_sentences_give_the_loss_and_gradient_of_a_sentence_a_line(module, sizes, num_microbatches):
    batch, lines = sentence_batch(), sentence_batch(parts=num_microbatches)
    assert "places" not in batch and len(lines["places"]) < 0.8 * 8 * (1 + K)
    _, objective, parts = made(module, batch, num_microbatches=num_microbatches, **sizes)
    (loss, (_, metrics)), gradient = run(objective, parts, batch)
    (other, (_, their)), their_gradient = run(objective, parts, lines)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves((gradient, metrics)), jax.tree.leaves((their_gradient, their)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * max(1, float(jnp.abs(a).max())))


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (sentence_nce, {"bidirectional": True, "unnormalised": True}),
        (sentence_likelihood, {"bidirectional": True}),
        (word_nce, {"head": "language_model"}),
    ],
)
def test_eight_devices_give_the_loss_and_gradient_of_one(module, sizes):
    batch = word_batch() if "head" in sizes else sentence_batch(parts=8)
    _, objective, parts = made(module, batch, **sizes)
    (loss, (_, metrics)), gradient = run(objective, parts, batch, jax.random.key(1))
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    sharded, whole = jax.device_put(batch, rules.batch_sharding(mesh)), jax.device_put(parts, rules.replicated(mesh))
    (other, (_, their)), their_gradient = run(objective, whole, sharded, jax.random.key(1))
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves((gradient, metrics)), jax.tree.leaves((their_gradient, their)), strict=True):
        np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-5, atol=2e-6 * max(1, float(jnp.abs(a).max())))


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (sentence_nce, {"bidirectional": True, "unnormalised": True}),
        (sentence_nce, {"bidirectional": True, "unnormalised": True, "residual": True}),
        (sentence_likelihood, {"bidirectional": True}),
        (word_nce, {"head": "language_model"}),
    ],
)
def test_factors_of_the_weights_are_trained(module, sizes):
    batch = word_batch() if "head" in sizes else sentence_batch()
    _, objective, parts = made(module, batch, method="rank1", **sizes)
    (loss, _), gradient = run(objective, parts, batch, jax.random.key(1))
    of_decoder = [np.abs(leaf).max() for leaf in jax.tree.leaves(gradient["student"]["output_embedding"])]
    assert np.isfinite(loss) and len(of_decoder) == 2 and max(of_decoder) > 0


@pytest.mark.parametrize("module", [sentence_nce, sentence_likelihood])
def test_microbatches_give_the_loss_and_gradient_of_one_batch(module):
    batch, sizes = sentence_batch(), {"bidirectional": True, "unnormalised": module is sentence_nce}
    _, objective, parts = made(module, batch, **sizes)
    _, in_parts, _ = made(module, batch, num_microbatches=4, **sizes)
    (loss, _), gradient = run(objective, parts, batch)
    (other, _), their_gradient = run(in_parts, parts, batch)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(their_gradient), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * max(1, float(jnp.abs(a).max())))


def test_a_contrast_without_noise_is_refused():
    batch = {name: column[:, :1] if np.ndim(column) > 1 else column for name, column in sentence_batch().items()}
    with pytest.raises(UserError, match=r"data\.num_noise is 0"):
        made(sentence_nce, batch)


def test_an_unknown_loss_is_refused():
    config = word_nce.default_config()
    config.loss = "hinge"
    with pytest.raises(UserError, match="sampled_softmax"):
        fields.check(word_nce.FIELDS, config, "objective")
