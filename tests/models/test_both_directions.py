"""The bi-directional LSTM: an independent float64 model (torch layers), and that no context sees its own word."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import nce
from codir_jax.models.heads import build_model
from codir_jax.models.language_model import decoder
from codir_jax.models.recurrent_encoder import LSTMConfig

GOLDEN = Path(__file__).parents[1] / "losses" / "golden"


def model_of(golden, *, bidirectional=True):
    """The model and the weights of a golden file; its </s> pads, as ours does, and <s> is a word of its own."""
    size = golden["A"].shape
    vocab_size = len(golden["bias"])
    config = LSTMConfig(
        vocab_size,
        vocab_size - 1,
        hidden_size=size[0],
        num_layers=1,
        embedding_size=size[1],
        bidirectional=bidirectional,
    )
    params = {"embedding": golden["embedding"], "left_kernel": golden["A"], "right_kernel": golden["B"]}
    for name, theirs in (("layer_0", "forward"), ("backward_layer_0", "backward")):
        params[name] = {
            "input_kernel": golden[f"{theirs}_weight_ih_l0"].T,
            "recurrent_kernel": golden[f"{theirs}_weight_hh_l0"].T,
            "bias": golden[f"{theirs}_bias_ih_l0"] + golden[f"{theirs}_bias_hh_l0"],
        }
    params = {"encoder": params, "output_embedding": golden["output_embedding"], "output_bias": golden["bias"]}
    return build_model(config, "language_model"), jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def inputs(words, lengths, golden):
    """(input_ids, next_ids, mask) [rows, longest + 1] of words padded with -1."""
    bos, eos = int(golden["bos"]), int(golden["eos"])
    words = np.where(np.arange(words.shape[1]) < lengths[:, None], words, eos)
    end = np.full((len(words), 1), eos)
    mask = np.arange(words.shape[1] + 1) <= lengths[:, None]
    return np.concatenate([end * 0 + bos, words], 1), np.concatenate([words, end], 1), mask.astype(np.int32)


def contexts(model, params, ids, mask):
    return model.apply({"params": params}, ids, mask, ids * 0, method="states").states


def scores(model, params, sentences, golden, *, offset=0.0, normalised=False):
    ids, following, mask = sentences
    table, bias = decoder(params)
    logits = contexts(model, params, ids, mask) @ table.T + bias
    if normalised:
        logits = jax.nn.log_softmax(logits, axis=-1)
    found = jnp.take_along_axis(logits, following[..., None], axis=-1)
    return jnp.sum((found[..., 0] + offset) * mask, axis=-1)


@pytest.mark.parametrize("case", ["sentence_V3_k2", "sentence_V12_k4"])
def test_contexts_scores_loss_and_gradients_are_those_of_the_independent_model(case):
    golden = np.load(GOLDEN / f"{case}.npz")
    model, params = model_of(golden)
    data = inputs(golden["data_words"], golden["data_lengths"], golden)
    noise = inputs(golden["noise_words"], golden["noise_lengths"], golden)
    c, k, rows = float(golden["c"]), int(golden["k"]), len(golden["data_lengths"])
    found = contexts(model, params, data[0], data[2])[0]
    np.testing.assert_allclose(found[: len(golden["first_context"])], golden["first_context"], atol=1e-6)

    def loss(params, offset):
        of_data = scores(model, params, data, golden, offset=offset)
        of_noise = scores(model, params, noise, golden, offset=offset)
        log_q = np.concatenate([golden["data_log_q"][:, None], golden["noise_log_q"].reshape(rows, k)], 1)
        value = nce.nce(jnp.concatenate([of_data[:, None], of_noise.reshape(rows, k)], 1), log_q, k).mean()
        return value, (of_data, of_noise)

    (value, (of_data, of_noise)), (gradients, of_c) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
        params, c
    )
    np.testing.assert_allclose(of_data, golden["data_score"], rtol=1e-5)
    np.testing.assert_allclose(of_noise, golden["noise_score"], rtol=1e-5)
    np.testing.assert_allclose(value, golden["nce_loss"], rtol=1e-5)
    encoder = gradients["encoder"]
    for name, gradient in {
        "embedding": encoder["embedding"],
        "output_embedding": gradients["output_embedding"],
        "A": encoder["left_kernel"],
        "B": encoder["right_kernel"],
        "forward_weight_hh": encoder["layer_0"]["recurrent_kernel"].T,
        "backward_weight_hh": encoder["backward_layer_0"]["recurrent_kernel"].T,
    }.items():
        expected = golden[f"grad_{name}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max() + 1e-9, err_msg=name)
    # c is one number for all words: the biases of the words have it among them. Its parts cancel to a hundredth.
    for gradient in (of_c, gradients["output_bias"].sum()):
        np.testing.assert_allclose(gradient, golden["grad_c"], rtol=1e-5, atol=2e-6)
    log_z = jax.nn.logsumexp(of_noise - golden["noise_log_q"]) - np.log(len(of_noise))
    np.testing.assert_allclose(log_z, golden["ln_z_importance"], rtol=1e-5)


@pytest.mark.parametrize("case", ["sentence_V3_k2", "sentence_V12_k4"])
def test_the_pseudo_likelihood_and_the_forward_probability_are_those_of_the_independent_model(case):
    golden = np.load(GOLDEN / f"{case}.npz")
    data = inputs(golden["data_words"], golden["data_lengths"], golden)
    for name, model, params in (
        ("data_pseudo_log_likelihood", *model_of(golden)),
        ("data_forward_log_prob", *_without_right(golden)),
    ):
        found = scores(model, params, data, golden, normalised=True)
        np.testing.assert_allclose(found, golden[name], rtol=1e-5, err_msg=name)


def _without_right(golden):
    model, params = model_of(golden)
    return model, {**params, "encoder": {**params["encoder"], "right_kernel": params["encoder"]["right_kernel"] * 0}}


def test_no_context_sees_its_own_word_and_every_one_sees_all_the_others():
    golden = np.load(GOLDEN / "sentence_V12_k4.npz")
    model, params = model_of(golden)
    config = model.config.__class__(**{**vars(model.config), "num_layers": 2})
    model = build_model(config, "language_model")
    ids = np.array([[12, 3, 1, 4, 2, 13, 13], [12, 5, 6, 0, 1, 2, 3]])
    mask = (np.arange(7) < np.array([[5], [7]])).astype(np.int32)
    params = model.init(jax.random.key(0), ids, mask, ids)["params"]
    params = jax.tree.map(lambda x: x.value, params, is_leaf=lambda x: hasattr(x, "value"))
    before = np.asarray(contexts(model, params, ids, mask))
    for place in range(1, 5):  # of a word, predicted at the position before
        other = ids.copy()
        other[:, place] = (other[:, place] + 1) % 12
        changed = np.abs(np.asarray(contexts(model, params, other, mask)) - before).max(-1) > 1e-7
        for row, length in enumerate((5, 7)):
            expected = np.arange(length) != place - 1
            np.testing.assert_array_equal(changed[row, :length], expected)


def test_padding_changes_nothing():
    golden = np.load(GOLDEN / "sentence_V12_k4.npz")
    model, params = model_of(golden)
    ids, _, mask = inputs(golden["data_words"], golden["data_lengths"], golden)
    whole = contexts(model, params, ids, mask)
    for row, length in enumerate(golden["data_lengths"] + 1):
        alone = contexts(model, params, ids[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], whole[row, :length], atol=1e-6)
