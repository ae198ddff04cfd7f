"""The recurrent layers against golden numbers, a plain loop and their own limits.

golden/lstm.npz: two small models with random weights, their perplexity on a stream whose state is carried between
windows, and the gradients of the mean; float64 arithmetic with torch.nn.LSTM as a witness. Biases of torch are added.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from codir_jax.convert.save import save_pretrained
from codir_jax.models import language_model, lstm
from codir_jax.models.heads import build_model, init_params
from codir_jax.models.recurrence import Carry, recur, zero_carry
from codir_jax.models.recurrent_encoder import LSTMConfig
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox

GOLDEN = np.load(Path(__file__).parent / "golden" / "lstm.npz")


def golden(name):
    """(config, params, everything) of one of the two models."""
    found = {key.removeprefix(f"{name}_"): GOLDEN[key] for key in GOLDEN.files if key.startswith(f"{name}_")}
    vocab_size, width = found["embedding"].shape
    num_layers = sum(key.startswith("layer") and key.endswith("bias_ih_l0") for key in found)
    config = LSTMConfig(
        vocab_size,
        0,
        hidden_size=found["last_layer"].shape[-1],
        num_layers=num_layers,
        embedding_size=width,
        tie_embeddings=name == "tied",
    )
    return config, as_ours(found, "", num_layers), found


def as_ours(found, prefix, num_layers):
    """Weights of torch's names, or their gradients, as our tree."""
    encoder = {"embedding": found[f"{prefix}embedding"]}
    for i in range(num_layers):
        of_layer = f"{prefix}layer{i}"
        encoder[f"layer_{i}"] = {
            "input_kernel": found[f"{of_layer}_weight_ih_l0"].T,
            "recurrent_kernel": found[f"{of_layer}_weight_hh_l0"].T,
            "bias": found[f"{of_layer}_bias_ih_l0"],
        }
    params = {"encoder": encoder}
    if not prefix:
        params["output_bias"] = found["output_bias"]
        if "output_weight" in found:
            params["output_embedding"] = found["output_weight"]
    return params


def run(config, params, found, *, is_carried):
    """(nats of each window, state of the last layer after the last token) of the golden stream."""
    model = build_model(config, "language_model")
    num_rows, length = int(found["batch"]), int(found["window"])
    size = len(found["ids"]) // num_rows
    rows = found["ids"][: num_rows * size].reshape(num_rows, size).astype(np.int32)
    carry, nats = zero_carry(config, num_rows), []
    for start in range(0, size - 1, length):
        ids = rows[:, start : min(start + length, size - 1)]
        following = rows[:, start + 1 : start + 1 + ids.shape[1]]
        before = jax.lax.stop_gradient(carry) if is_carried else None
        output = model.apply({"params": params}, ids, ids, ids, carry=before, method="states")
        carry = output.carry
        table, bias = language_model.decoder(params)
        logits = output.states @ table.T + bias
        nats.append(optax.softmax_cross_entropy_with_integer_labels(logits, following).sum())
    return jnp.stack(nats), output.states[:, -1]


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_perplexity_and_gradients_with_a_carried_state_are_the_golden_ones(name):
    config, params, found = golden(name)
    num_tokens = int(found["tokens_scored"])

    def mean(params):
        nats, last = run(config, params, found, is_carried=True)
        return nats.sum() / num_tokens, (nats, last)

    (value, (nats, last)), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True))(params)
    np.testing.assert_allclose(np.exp(value), found["perplexity"], rtol=1e-5)
    np.testing.assert_allclose(nats, found["window_nll"], rtol=1e-5)
    np.testing.assert_allclose(last, found["last_layer"], atol=1e-6)
    expected = traverse_util.flatten_dict(as_ours(found, "grad_", config.num_layers))
    ours = traverse_util.flatten_dict(gradients)
    for path, theirs in expected.items():
        np.testing.assert_allclose(ours[path], theirs, atol=2e-7, err_msg="/".join(path))


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_a_state_that_is_lost_between_windows_gives_another_perplexity(name):
    config, params, found = golden(name)
    nats, _ = jax.jit(lambda params: run(config, params, found, is_carried=False))(params)
    perplexity = np.exp(nats.sum() / int(found["tokens_scored"]))
    np.testing.assert_allclose(perplexity, found["perplexity_state_reset_each_window"], rtol=1e-5)
    assert abs(perplexity / found["perplexity"] - 1) > 5e-3


def plain(inputs, kernel, carry, kept=None):
    """The recurrence as a loop that JAX differentiates."""
    hidden, cell = carry
    states = []
    for x, share in zip(inputs, [1.0] * len(inputs) if kept is None else kept, strict=True):
        hidden, cell = share * hidden, share * cell
        i, f, g, o = jnp.split(x + hidden @ kernel, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        states.append(hidden)
    return jnp.stack(states), Carry(hidden, cell)


@pytest.mark.parametrize("kept", [None, np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 0], [1, 0, 1]])])
def test_the_custom_gradient_is_that_of_a_plain_loop(kept):
    kept = None if kept is None else jnp.asarray(kept[..., None], jnp.float32)
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    arguments = draw(5, 3, 16), draw(4, 16), Carry(draw(3, 4), draw(3, 4))
    weights = draw(5, 3, 4), Carry(draw(3, 4), draw(3, 4))

    def value(function):
        def of(*arguments):
            found = function(*arguments, kept)
            return sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(weights), strict=True))

        return jax.jit(jax.value_and_grad(of, argnums=(0, 1, 2)))(*arguments)

    ours, theirs = value(lambda *arguments: recur(jnp.float32, *arguments)), value(plain)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def tiny(**sizes):
    """(model, params, ids)."""
    config = LSTMConfig(20, 0, hidden_size=6, num_layers=2, initializer_range=0.5, **sizes)
    model = build_model(config, "language_model")
    params = jax.jit(lambda key: unbox(init_params(model, key)))(jax.random.key(0))
    return model, params, np.random.default_rng(0).integers(0, 20, (3, 7)).astype(np.int32)


def test_padding_behind_a_text_changes_nothing_before_it():
    model, params, ids = tiny()
    longer = np.concatenate([ids, np.full((3, 2), 9, np.int32)], 1)
    apply = jax.jit(lambda x: model.apply({"params": params}, x, x, x).logits)
    states = [apply(x)[:, : ids.shape[1]] for x in (ids, longer)]
    np.testing.assert_allclose(states[0], states[1], atol=1e-6)


def test_dropout_is_on_what_goes_up_and_not_on_what_goes_on():
    model, params, ids = tiny(hidden_dropout=0.5)
    run = jax.jit(
        lambda p, rng: model.apply(
            {"params": p}, ids, ids, ids, deterministic=rng is None, rngs={} if rng is None else {"dropout": rng}
        )
    )
    dropped = run(params, jax.random.key(1))
    assert not np.allclose(dropped.hidden_states[1], run(params, None).hidden_states[1])
    assert not np.allclose(dropped.logits, run(params, jax.random.key(2)).logits)
    # Without a way up, nothing is left to drop but what the decoder is given.
    cut = jax.tree_util.tree_map_with_path(lambda path, x: 0 * x if "input_kernel" in str(path) else x, params)
    np.testing.assert_array_equal(run(cut, jax.random.key(1)).hidden_states[-1], run(cut, None).hidden_states[-1])


def test_a_file_has_the_names_and_shapes_of_torch(tmp_path):
    model, params, _ = tiny(embedding_size=5)
    save_pretrained(tmp_path, model.config, params, head="language_model")
    stored = load_file(tmp_path / "model.safetensors")
    shapes = {name: array.shape for name, array in stored.items()}
    assert shapes == {
        "embedding.weight": (20, 5),
        **{"lstm.weight_ih_l0": (24, 5), "lstm.weight_hh_l0": (24, 6), "lstm.bias_ih_l0": (24,)},
        **{"lstm.weight_ih_l1": (24, 6), "lstm.weight_hh_l1": (24, 6), "lstm.bias_ih_l1": (24,)},
        **{"output.weight": (20, 6), "output.bias": (20,)},
    }
    np.testing.assert_array_equal(stored["lstm.weight_ih_l0"].T, params["encoder"]["layer_0"]["input_kernel"])


def test_the_named_sizes_have_the_published_number_of_weights():
    sizes = {"lstm-small": 4_651_600, "lstm-medium": 19_775_200, "lstm-large": 66_022_000}
    for name, expected in sizes.items():
        shapes = jax.eval_shape(lambda name=name: init_params(build_model(lstm.SIZES[name], "language_model"), KEY))
        assert sum(leaf.size for leaf in jax.tree.leaves(unbox(shapes))) == expected


KEY = jax.random.key(0)


def test_a_bfloat16_model_is_near_the_float32_one():
    model, params, ids = tiny()
    half = build_model(model.config, "language_model", dtype=jnp.bfloat16)
    logits = [jax.jit(one.apply)({"params": params}, ids, ids, ids).logits for one in (model, half)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.05


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tie_embeddings": True, "embedding_size": 3}, "tied embeddings need embedding_size 3 = hidden_size 200"),
        ({"hidden_dropout": 1.0}, "hidden_dropout: expected a number, 0 to below 1"),
        ({"num_layers": 0}, "num_layers: expected a whole number, 1 to 1000"),
    ],
)
def test_sizes_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        LSTMConfig(20, 0, **fields)


def test_a_config_that_lacks_a_size_or_has_a_wrong_one_is_refused():
    whole = lstm.write_config(LSTMConfig(20, 0))
    with pytest.raises(UserError, match="needs 'vocab_size'"):
        lstm.read_config({key: value for key, value in whole.items() if key != "vocab_size"})
    with pytest.raises(UserError, match="hidden_size: expected a whole number, 1 to 2147483647, got 'many'"):
        lstm.read_config({**whole, "hidden_size": "many"})
    with pytest.raises(UserError, match="remat='block' is of transformers"):
        lstm.build_encoder(LSTMConfig(20, 0), jnp.float32, "block")
