"""The contrast of tokens, and of texts with the teacher's labels: against loops in numpy, and in limit cases."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.losses import contrastive, distillation
from codir_jax.objectives import codir, codir_settings, spaces, token_contrast
from codir_jax.objectives.contract import Step
from codir_jax.objectives.contrastive_term import contrastive_term
from codir_jax.objectives.cost import StepSize
from codir_jax.objectives.views import Views
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import collectives, rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny

SETTING = tiny.pretraining_setting()
BATCH = tiny.batch(SETTING, np.arange(5), length=6, num_padding=1)
# Two texts share a word piece, and one has it twice.
BATCH["input_ids"][[0, 1, 1], [1, 1, 2]] = 39
PAIRS = ((1, 1), (1, 2))
TAU = 0.1


def _config(**changes):
    config = codir.default_config("pretrain")
    config.update({"layer_matches": "1:1,1:2", "layer_aggregation": "per_layer", "contrastive_temperature": TAU})
    config.contrast.update({"unit": "token", "space": "centred", "num_sampled": 64, "queue_size": 9, **changes})
    codir_settings.check(config)
    return config


@functools.cache
def _states():
    """(student's layer 1, teacher's layers 0 to 2), random, the student near its teacher."""
    rng = np.random.default_rng(3)
    theirs = {layer: rng.normal(size=(6, 6, 16)) + 3.0 for layer in range(3)}
    ours = 0.5 * theirs[1] + 0.5 * theirs[2] + 0.3 * rng.normal(size=(6, 6, 16))
    return {1: ours.astype(np.float32)}, {layer: x.astype(np.float32) for layer, x in theirs.items()}


def _term(config, batch=BATCH, state=None, states=None):
    ours, theirs = states or _states()
    state = token_contrast.init_state(config, SETTING) if state is None else state

    @jax.jit
    def run(state, batch, ours, theirs):
        views = Views(None, None, None, None, ours, theirs)
        return token_contrast.token_term(config, SETTING, {}, views, state, batch, jax.random.key(1))

    return run(state, batch, ours, theirs)


def _expected(keys_of, target="one_hot", teacher_tau=TAU, ceiling=1.0, is_centred=True):
    """Mean loss of each real text by loops. `keys_of(layer, text, token)` -> the teacher's unit states of its keys."""
    (ours, theirs), real = _states(), BATCH["attention_mask"] > 0
    unit = lambda x: x / np.linalg.norm(x)  # noqa: E731
    middle = {t: theirs[t][real].astype(np.float64).mean(0) if is_centred else 0.0 for t in theirs}
    losses = []
    for text in range(5):
        of_tokens = []
        for token in np.flatnonzero(real[text]):
            of_layers = []
            for s, t in PAIRS:
                student = unit(ours[s][text, token] - middle[t])
                own = unit(theirs[t][text, token] - middle[t])
                keys = [unit(theirs[layer][i, j] - middle[layer]) for layer, i, j in keys_of(t, text, token)]
                keys = [key for key in keys if own @ key <= ceiling]
                logits = np.array([student @ key for key in [own, *keys]]) / TAU
                log_student = logits - np.log(np.exp(logits).sum())
                if target == "one_hot":
                    of_layers.append(-log_student[0])
                else:
                    wanted = np.array([own @ key for key in [own, *keys]]) / teacher_tau
                    log_teacher = wanted - np.log(np.exp(wanted).sum())
                    of_layers.append(np.sum(np.exp(log_teacher) * (log_teacher - log_student)))
            of_tokens.append(np.mean(of_layers))
        losses.append(np.mean(of_tokens))
    return losses


def _real_tokens():
    return [tuple(place) for place in np.argwhere(BATCH["attention_mask"] > 0)]


def _same_text(layer, text, token):
    return [(layer, i, j) for i, j in _real_tokens() if i == text and j != token]


def _near(layer, text, token):
    return [(layer, i, j) for i, j in _real_tokens() if i == text and 0 < abs(j - token) <= 1]


def _batch(layer, text, token):
    return [(layer, i, j) for i, j in _real_tokens() if (i, j) != (text, token)]


def _same_word(layer, text, token):
    words = BATCH["input_ids"]
    return [key for key in _batch(layer, text, token) if words[key[1:]] == words[text, token]]


def _near_layers(layer, text, token):
    return [(other, text, token) for other in {1: (0, 2), 2: (0, 1)}[layer]]


KEYS = {
    "same_text": _same_text,
    "near_positions": _near,
    "batch": _batch,
    "same_word": _same_word,
    "near_layers": _near_layers,
    "same_text+batch": _batch,  # each key once
    "batch+same_word": _batch,
    "near_positions+batch": _batch,
    "near_positions+same_word": lambda *own: list(dict.fromkeys(_near(*own) + _same_word(*own))),
    "near_positions+near_layers": lambda *own: _near(*own) + _near_layers(*own),
}


@pytest.mark.parametrize("target", ["one_hot", "teacher"])
@pytest.mark.parametrize("keys_from", KEYS)
def test_every_source_of_keys_by_hand(keys_from, target):
    ceiling = 0.3 if keys_from in ("batch", "same_text") else 1.0
    config = _config(keys_from=keys_from, target=target, teacher_temperature=0.2, window=1, similarity_ceiling=ceiling)
    losses, _, metrics = _term(config)
    expected = _expected(KEYS[keys_from], target, 0.2, ceiling)
    np.testing.assert_allclose(losses[:5], expected, rtol=2e-5, atol=2e-6)
    assert losses[5] == 0 and metrics["contrastive_loss"][1] == 5
    if ceiling == 1:
        num_keys = sum(len(KEYS[keys_from](1, *place)) for place in _real_tokens())
        assert metrics["num_token_keys"] == (2 * num_keys, 2 * len(_real_tokens()))


def test_raw_states_are_not_centred():
    losses, _, _ = _term(_config(keys_from="batch", space="raw", similarity_ceiling=1.0))
    np.testing.assert_allclose(losses[:5], _expected(_batch, is_centred=False), rtol=2e-5)


def test_a_bounded_sample_has_so_many_keys_and_serves_everybody():
    _, _, metrics = _term(_config(keys_from="batch", num_sampled=7, similarity_ceiling=1.0))
    num_tokens = len(_real_tokens())
    assert metrics["num_token_keys"] == (2 * (7 * num_tokens - 7), 2 * num_tokens)  # nobody is its own key


def test_the_queue_holds_earlier_tokens_and_leaves_out_those_of_the_same_text():
    config = _config(keys_from="queue", num_sampled=4, similarity_ceiling=1.0)
    losses, state, metrics = _term(config)
    assert not losses.any() and metrics["token_retrieval_rate"] == (0, 0)
    queue = state[token_contrast.QUEUE]
    assert queue["is_valid"].sum() == 4 and set(np.asarray(queue["text_ids"][:4])) <= set(range(5))
    _, _, again = _term(config, state=state)
    of_own = sum((BATCH["attention_mask"][i] > 0).sum() for i in np.asarray(queue["text_ids"][:4]))
    assert again["num_token_keys"][0] == 2 * (4 * len(_real_tokens()) - of_own)


def test_a_student_that_is_its_teacher_has_no_relation_to_learn_and_no_gradient():
    theirs = _states()[1]
    states = {1: theirs[2]}, theirs
    config = _config(keys_from="same_text+batch", target="teacher", teacher_temperature=TAU)
    config.update({"layer_matches": "1:2"})
    losses, _, metrics = _term(config, states=states)
    assert np.abs(losses).max() < 1e-6
    np.testing.assert_allclose(metrics["student_entropy"][0], metrics["teacher_entropy"][0], rtol=1e-5)
    assert metrics["token_retrieval_rate"][0] == metrics["token_retrieval_rate"][1]
    of_states = jax.grad(lambda x: _term(config, states=({1: x}, theirs))[0].sum())
    gradient = jax.jit(of_states)(jnp.asarray(theirs[2]))
    assert np.abs(gradient).max() < 1e-5
    one_hot = _config(keys_from="same_text+batch")
    one_hot.update({"layer_matches": "1:2"})
    assert _term(one_hot, states=states)[0][:5].min() > 1e-3  # a one-hot label is never reached


def test_the_entropy_of_equal_cosines_is_the_logarithm_of_their_number():
    cosines, usable = np.full((2, 5), 0.3), np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    found = contrastive.entropy([(cosines[:, :2], usable[:, :2]), (cosines[:, 2:], usable[:, 2:])], TAU)
    np.testing.assert_allclose(found, [np.log(3), 0], atol=1e-6)


def test_two_temperatures_of_a_relation():
    ours, theirs = np.array([[0.5, 0.1, -0.2]]), np.array([[0.9, 0.3, 0.0]])
    usable = np.ones((1, 3), bool)
    p = np.exp(theirs / 0.5) / np.exp(theirs / 0.5).sum()
    q = np.exp(ours / 0.1) / np.exp(ours / 0.1).sum()
    found = distillation.similarity_loss([(ours, theirs, usable)], 0.1, 0.5)[0]
    np.testing.assert_allclose(found, [(p * np.log(p / q)).sum()], rtol=1e-5)


@pytest.mark.parametrize("space", ["projected", "centred", "raw"])
def test_a_relation_of_texts_by_hand(space):
    """Over the own view and the other texts of the batch, whatever their documents."""
    config = codir.default_config("pretrain")
    config.update({"contrastive_temperature": TAU, "projection_dim": 5})
    config.contrast.update({"target": "teacher", "teacher_temperature": 0.2, "space": space})
    config.negatives.source = "in_batch"
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 6, 2, 16)).astype(np.float32)
    weights = spaces.init(jax.random.split(jax.random.key(0)), config, SETTING, 2)
    middle = spaces.centre(config, theirs, BATCH["example_mask"])
    features = {
        side: spaces.features(config, weights, side, jnp.asarray(x), middle)
        for side, x in (("student", ours), ("teacher", theirs))
    }
    if space != "projected":
        assert not weights
        layers = np.moveaxis(ours - (theirs[:5].mean(0) if space == "centred" else 0), 1, 0)
        expected = np.concatenate([x / np.linalg.norm(x, axis=-1, keepdims=True) for x in layers], axis=-1) / np.sqrt(2)
        np.testing.assert_allclose(features["student"][:5, 0], expected[:5], atol=1e-5)
    losses, _, metrics = contrastive_term(config, features, {}, {}, BATCH)
    s, t = (np.asarray(features[side], np.float64)[:5, 0] for side in ("student", "teacher"))
    expected = []
    for i in range(5):
        p, q = np.exp(t[i] @ t.T / 0.2), np.exp(s[i] @ t.T / TAU)
        p, q = p / p.sum(), q / q.sum()
        expected.append((p * np.log(p / q)).sum())
    np.testing.assert_allclose(losses[:5], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["contrastive_loss"][0], np.sum(expected), rtol=1e-4)


def test_a_narrower_student_has_a_map_in_every_space():
    setting, batch = tiny.pretraining_setting(teacher_width=32), tiny.batch(SETTING, np.arange(4))
    for space, entry in (("centred", "contrast_map"), ("projected", "projection_student")):
        config = _config(space=space)
        config.update({"projection_dim": 8, "hidden_loss": "l2", "hidden_unit": "token"})
        objective = codir.make(config, setting)
        params, frozen, state = jax.eval_shape(objective.init, jax.random.key(0), batch)
        assert {entry, "hidden_map"} <= set(params) and set(frozen) == {"teacher"} and not state
        loss = jax.eval_shape(objective.loss, *unbox((params, frozen, state)), batch, Step())[0]
        assert loss.shape == ()


def test_what_is_sent_and_scored_grows_with_the_sample_and_not_with_the_square_of_the_batch():
    objective = codir.make(_config(keys_from="same_text+batch", num_sampled=32), SETTING)
    small, large = (objective.cost(StepSize(n, 1, 4, 4, length=64)) for n in (64, 256))
    assert large.scores == 4 * small.scores == 256 * 64 / 4 * (64 + 32) * 2
    of_sample = 4 * 32 * 2 * 16
    assert small.features.table_bytes == of_sample + 8 * 64 * 64
    assert large.features.table_bytes == of_sample + 8 * 256 * 64
    quiet = codir.make(_config(keys_from="same_text"), SETTING).cost(StepSize(64, 1, 4, 4, length=64))
    assert quiet.features.table_bytes == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "word"}, "one of text, token"),
        ({"target": "soft"}, "one of one_hot, teacher"),
        ({"space": "flat"}, "one of projected, centred, raw"),
        ({"keys_from": "batch+bank"}, "joined by"),
        ({"num_sampled": 0}, "num_sampled=0: expected a whole number, 1 to"),
        ({"similarity_ceiling": 0.0}, "above 0 and at most 1"),
        ({"teacher_temperature": 0.0}, "above 0 and at most"),
    ],
)
def test_bad_values_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        _config(**changes)


@pytest.mark.parametrize(("layer", "near"), [(0, (1, 2)), (1, (0, 2)), (2, (1, 3)), (3, (1, 2))])
def test_the_layers_next_to_one_are_layers_of_the_teacher(layer, near):
    teacher = types.SimpleNamespace(config=types.SimpleNamespace(num_layers=3))
    assert token_contrast._neighbours(layer, types.SimpleNamespace(teacher=teacher)) == near


def test_neighbours_of_a_layer_are_no_keys_of_all_layers_at_once():
    config = _config(keys_from="near_layers")
    config.layer_aggregation = "concat"
    with pytest.raises(UserError, match="layer_aggregation=per_layer"):
        codir_settings.check(config)


def test_eight_devices_send_each_other_the_sample_and_no_device_has_the_square_of_the_batch():
    """Gradient of the term: what is sent is what `cost` says, apart from the centre of each layer and scalars."""
    rows, length, width, sampled = 32, 16, 16, 24
    config = _config(keys_from="same_text+batch+same_word+queue", num_sampled=sampled, target="teacher")
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    split = rules.batch_sharding(mesh)
    states = jnp.ones((rows, length, width))
    batch = {
        "input_ids": jnp.ones((rows, length), jnp.int32),
        "attention_mask": jnp.ones((rows, length), jnp.int32),
        "example_mask": jnp.ones(rows),
        "text_ids": jnp.arange(rows),
    }

    def loss(ours, theirs, batch):
        views = Views(None, None, None, None, {1: ours}, {1: theirs, 2: theirs})
        with rules.on_mesh(mesh):
            state = token_contrast.init_state(config, SETTING)
            losses, state, _ = token_contrast.token_term(config, SETTING, {}, views, state, batch, jax.random.key(0))
        return losses.sum(), state

    program = jax.jit(jax.grad(loss, has_aux=True), in_shardings=(split, split, split))
    text = program.lower(states, states, batch).compile().as_text()
    sent = collectives.parse(text)
    told = codir.make(config, SETTING).cost(StepSize(rows, 1, 8, 8, length=length)).features.table_bytes
    arrays = [(kind, dims) for one in sent for kind, dims in one.shapes if one.kind == "all-reduce"]
    of_samples = sum(4 * np.prod(dims) for kind, dims in arrays if kind == "f32" and sampled in dims)
    assert 0 < of_samples <= 4 * 2 * sampled * 2 * width
    assert sum(one.num_bytes for one in sent) < told + 4 * 4 * 2 * width + 8 * rows * length + 1024
    tokens = rows * length
    assert not re.findall(rf"\[(?:\d+,)*{tokens}(?:,\d+)*,{tokens}[,\]]", text)
    assert not re.findall(rf"f32\[{tokens},\d+,{width}\]", text)  # nowhere all features
