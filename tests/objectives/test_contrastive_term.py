"""The whole contrastive term against closed-form reference numbers of the released code, and what goes into it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.objectives import codir
from codir_jax.objectives.contrastive_term import contrastive_term, init_state
from codir_jax.objectives.projections import project
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny


def lin(*shape, a=1.0, b=0.0):
    """a * sin(0.37 k + b) for k = 1, 2, ... in row-major order."""
    k = np.arange(1, np.prod(shape) + 1)
    return (a * np.sin(0.37 * k + b)).astype(np.float32).reshape(shape)


PROJECTIONS = {
    "student": {"kernel": lin(4, 6, b=0.1).T[None], "bias": lin(4, a=0.1, b=0.2)[None]},
    "teacher": {"kernel": lin(4, 8, b=0.3).T[None], "bias": lin(4, a=0.1, b=0.4)[None]},
}
POOLED = {"student": lin(2, 6, b=0.7)[:, None], "teacher": lin(2, 8, b=0.8)[:, None]}
NEGATIVE_IDS = np.array([[0, 2, 3], [7, 8, 9]], np.int32)
BATCH = {
    "example_ids": np.array([1, 4], np.int32),
    "text_ids": np.array([1, 4], np.int32),
    "example_mask": np.ones(2, np.float32),
}


def _frozen(num_rows):
    """Unlabelled rows of unequal texts."""
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    return {"train_rows": jnp.pad(jnp.stack([jnp.full_like(rows, -1), rows], 1), ((0, 1), (0, 0)), constant_values=-1)}


FROZEN = _frozen(10)


def _config(preset, **changes):
    config = codir.default_config(preset)
    config.update({"projection_dim": 4, "standardize_layers": False, **changes})
    config.negatives.num_negatives = 3
    return config


def _state(config):
    state = unbox(init_state(jax.random.key(0), config, 10, 1))
    state["bank"] = {
        "student": jnp.asarray(lin(10, 4, a=0.5, b=0.5)[:, None]),
        "teacher": jnp.asarray(lin(10, 4, a=0.5, b=0.6)[:, None]),
    }
    return state


def _term(config, state, pooled, projections=PROJECTIONS):
    @jax.jit
    def value(state, pooled, projections):
        features = {side: project(projections[side], pooled[side], config) for side in pooled}
        losses, after, metrics = contrastive_term(config, features, state, FROZEN, BATCH, NEGATIVE_IDS, num_train=10)
        return losses.mean(), (after, metrics)

    return value(state, pooled, projections)


def test_the_released_preset_gives_the_released_loss_normalisers_gradients_and_banks():
    config = _config("released")
    loss = lambda pooled, projections, state: _term(config, state, pooled, projections)  # noqa: E731
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (first, (state, _)), (of_pooled, of_maps) = gradient(POOLED, PROJECTIONS, _state(config))
    np.testing.assert_allclose(first, 3.4444797, rtol=1e-5)
    np.testing.assert_allclose(np.exp(state["log_normaliser"]["student"][0]), 80.856926, rtol=2e-6)
    np.testing.assert_allclose(np.exp(state["log_normaliser"]["teacher"][0]), 37.710701, rtol=2e-6)
    expected = [-0.04827674, -0.03306748, -0.01338267, 0.00811340, 0.02851138, 0.04505047]
    np.testing.assert_allclose(of_pooled["student"][0, 0], expected, atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(of_maps["teacher"]["kernel"]), 0.7594491, rtol=1e-5)
    student_row, teacher_row = state["bank"]["student"][1, 0], state["bank"]["teacher"][4, 0]
    np.testing.assert_allclose(student_row, [0.8402933, 0.0395574, -0.3074881, 0.4447398], atol=1e-6)
    np.testing.assert_allclose(teacher_row, [-0.2011618, 0.7079800, 0.0180085, 0.6767378], atol=1e-6)
    second, _ = _term(config, state, POOLED)
    np.testing.assert_allclose(second, 1.9837520, rtol=1e-5)


def test_rows_that_are_not_in_the_batch_stay_bit_equal():
    config = _config("released")
    before = _state(config)
    _, (after, _) = _term(config, before, POOLED)
    untouched = np.array([i for i in range(10) if i not in (1, 4)])
    for side in ("student", "teacher"):
        np.testing.assert_array_equal(after["bank"][side][untouched], before["bank"][side][untouched])


@pytest.mark.parametrize(("temperature", "expected"), [(0.07, 1.7734141), (0.5, 1.1423870)])
def test_info_nce_with_the_live_positive_and_bank_negatives(temperature, expected):
    config = _config("paper", contrastive_temperature=temperature, anchors="student")
    config.negatives.update({"source": "bank", "mask_unvisited": False})
    loss, _ = _term(config, _state(config), POOLED)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_both_anchors_are_the_mean_of_the_two():
    values = {}
    for anchors in ("student", "teacher", "both"):
        config = _config("paper", anchors=anchors)
        config.negatives.update({"source": "bank", "mask_unvisited": False})
        values[anchors] = float(_term(config, _state(config), POOLED)[0])
    assert values["both"] == pytest.approx((values["student"] + values["teacher"]) / 2, rel=1e-6)


def test_unvisited_rows_are_no_negatives_until_their_example_was_seen():
    config = _config("paper")
    config.negatives.source = "bank"
    loss, (state, metrics) = _term(config, _state(config), POOLED)
    assert float(loss) == 0.0
    assert float(metrics["num_negatives"][0]) == 0.0
    assert np.flatnonzero(state["bank_visited"]).tolist() == [1, 4]
    state["bank_visited"] = jnp.ones(10, bool)
    loss, (_, metrics) = _term(config, state, POOLED)
    assert float(loss) > 0
    assert float(metrics["num_negatives"][0]) == 6.0


def test_in_batch_negatives_count_the_other_rows_of_other_classes_and_texts():
    setting = tiny.setting(num_unlabelled=0)
    config = codir.default_config()
    config.update({"projection_dim": 4})
    config.negatives.update({"source": "in_batch"})
    objective = codir.make(config, setting)
    batch = tiny.batch(setting, ids=[0, 1, 2, 3, 4])  # classes 0 1 2 0 1
    batch["text_ids"][2] = batch["text_ids"][1]  # one text twice
    parts = tiny.start(objective, batch)
    parts[1].update(tiny.tables(objective))
    _, (_, metrics) = tiny.loss(objective, parts, batch)
    # Other classes: 3, 3, 4, 3, 3 rows; the pair (1, 2) has equal texts, which takes one from each of the two.
    assert float(metrics["num_negatives"][0]) == 3 + 2 + 3 + 3 + 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrastive_loss": "nce"}, "source='bank'"),
        ({"positive": "bank", "negatives": {"source": "in_batch"}}, "positive='bank'"),
        ({"negatives": {"source": "in_batch+banc"}}, "banc"),
        ({"contrastive_temperature": 0.0}, "temperature"),
        ({"layer_aggregation": "sum"}, "concat"),
        ({"layer_matches": "1:9"}, "layer 9"),
        ({"contrastive_schedule": "10:1"}, "10%:1"),
        ({"contrastive_schedule": "0%:one"}, r"contrastive_schedule='0%:one'.*two numbers.*0%:one"),
        ({"pooling": "max"}, "pooling"),
        ({"pooling": "none"}, "mean, first"),
        ({"negatives": {"num_negatives": 0}}, "num_negatives"),
        ({"negatives": {"source": "in_batch+queue", "mask_same_text": False}}, "its own earlier view"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused_by_name(changes, message):
    config = codir.default_config()
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key].update(value)
        else:
            config[key] = value
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        codir.make(config, tiny.setting())


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="paper, released"):
        codir.default_config("papper")


def test_label_aware_negatives_need_two_classes():
    setting = tiny.setting(num_unlabelled=0)
    setting.rows.labels[:] = 0
    with pytest.raises(ValueError, match="another class"):
        codir.make(codir.default_config(), setting)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_bank_is_written_in_place(preset):
    config, num_rows = _config(preset), 50_000
    frozen = _frozen(num_rows)

    def step(state, projections):
        def loss(projections):
            features = {side: project(projections[side], POOLED[side], config) for side in POOLED}
            losses, new_state, _ = contrastive_term(
                config, features, state, frozen, BATCH, NEGATIVE_IDS, num_train=num_rows
            )
            return losses.mean(), new_state

        return jax.grad(loss, has_aux=True)(projections)

    state = jax.eval_shape(lambda: unbox(init_state(jax.random.key(0), config, num_rows, 1)))
    memory = jax.jit(step, donate_argnums=0).lower(state, PROJECTIONS).compile().memory_analysis()
    one_bank = num_rows * config.projection_dim * 4
    assert memory.alias_size_in_bytes >= 2 * one_bank
    assert memory.temp_size_in_bytes < one_bank / 2
