"""NCE of words and sentences: numbers of Pytorch-NCE (MIT) executed, sums by hand, the optimum, limits."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import nce
from codir_jax.losses.vocabulary import Decoder, vocabulary_terms

GOLDEN = Path(__file__).parent / "golden"


def lin(shape, b):
    """Element k = 1, 2, ... is sin(0.37 k + b), row by row."""
    return np.sin(0.37 * np.arange(1, np.prod(shape) + 1) + b).reshape(shape)


@pytest.mark.parametrize("case", ["word_B2_N3_V50_k5", "word_B4_N6_V200_k20_norm9"])
@pytest.mark.parametrize("kind", ["nce", "sampled", "full"])
def test_words_meet_the_executed_reference_with_their_gradients(case, kind):
    golden = np.load(GOLDEN / f"{case}.npz")
    targets, noise = golden["targets"], golden["noise_words"]
    log_noise = jnp.concatenate(
        [
            golden["log_noise"][targets][..., None],
            jnp.broadcast_to(golden["log_noise"][noise], (*targets.shape, len(noise))),
        ],
        axis=-1,
    )

    def losses(states, table, bias):
        if kind == "full":
            return vocabulary_terms(Decoder(states, table, bias), targets).cross_entropy
        # The softmax cancels the norm; the package leaves it out there.
        scores = nce.word_scores(
            states, (table[targets], bias[targets]), (table[noise], bias[noise]), float(golden["norm_term"])
        )
        return nce.nce(scores, log_noise, len(noise)) if kind == "nce" else nce.sampled_softmax(scores, log_noise)

    arguments = (golden["hidden"], golden["output_embedding"], golden["bias"])
    found = jax.jit(losses)(*arguments)
    np.testing.assert_allclose(found, golden[f"{kind}_per_token"], rtol=1e-5)
    np.testing.assert_allclose(found.mean(), golden[f"{kind}_mean"], rtol=1e-5)
    gradients = jax.jit(jax.grad(lambda *a: losses(*a).mean(), argnums=(0, 1, 2)))(*arguments)
    for name, gradient in zip(("hidden", "output_embedding", "bias"), gradients, strict=True):
        expected = golden[f"{kind}_grad_{name}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)


def test_the_mean_by_hand():
    scores = np.concatenate([lin((2, 3), 0.2)[..., None], lin((2, 3, 5), 0.6)], axis=-1) - np.log(50)
    np.testing.assert_allclose(nce.nce(scores, np.log(0.02), 5).mean(), 2.2714150, rtol=1e-6)


def test_the_optimum_is_the_log_probability_of_the_data_whatever_the_noise():
    p, q = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04]), np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.1])

    def expected(score):
        """Over all of data and noise: k samples, each drawn from q."""
        of_data = nce.nce(jnp.stack([score, jnp.zeros(6)], -1), jnp.stack([jnp.log(q), jnp.full(6, 1e9)], -1), 3)
        of_noise = nce.nce(jnp.stack([jnp.zeros(6), score], -1), jnp.stack([jnp.full(6, -1e9), jnp.log(q)], -1), 3)
        return -(p @ of_data + 3 * q @ of_noise)

    value, gradient = jax.value_and_grad(expected)(jnp.log(p))
    np.testing.assert_allclose(value, -1.9960207, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    np.testing.assert_allclose(expected(jnp.log(p) + 1), -2.3599419, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 8, 100])
def test_a_score_that_is_the_noise_has_the_closed_form_and_so_has_a_residual_of_zero(k):
    log_q = -100.0 + lin((4, 1 + k), 0.0)
    expected = np.log(1 + k) + k * np.log(1 + 1 / k)
    np.testing.assert_allclose(nce.nce(log_q, log_q, k), expected, rtol=1e-5)
    np.testing.assert_allclose(nce.nce(np.zeros((4, 1 + k)), 0.0, k), expected, rtol=1e-6)


def test_nothing_is_clipped_far_from_the_noise():
    scores = jnp.array([[-150.0, -20.0]])
    value, gradient = jax.value_and_grad(lambda s: nce.nce(s, -100.0, 1).sum())(scores)
    np.testing.assert_allclose(value, 50.0 + 80.0)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0]])


@pytest.mark.parametrize("case", ["sentence_V3_k2", "sentence_V12_k4"])
def test_sentences_meet_the_golden_loss(case):
    golden = np.load(GOLDEN / f"{case}.npz")
    k, rows = int(golden["k"]), len(golden["data_score"])
    columns = [
        np.concatenate([golden[f"data_{n}"][:, None], golden[f"noise_{n}"].reshape(rows, k)], 1)
        for n in ("score", "log_q")
    ]
    np.testing.assert_allclose(nce.nce(*columns, k).mean(), golden["nce_loss"], rtol=1e-5)
