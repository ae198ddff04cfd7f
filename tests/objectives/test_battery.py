"""What every objective must do; a new one joins by existing, and its variants by a line in `METHODS`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.models.apply import apply_model
from codir_jax.objectives import codir
from codir_jax.objectives.contract import (
    Step,
    default_config_of,
    make_objective,
    needs_cache,
    needs_teacher,
    objective_module,
)
from codir_jax.objectives.views import matches
from codir_jax.processes import by_name
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny


def _config(name, **changes):
    config = objective_module(name.split(":")[0]).default_config()
    if name.startswith("codir:"):
        config = codir.default_config(name.removeprefix("codir:"))
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key].update(value)
        else:
            config[key] = value
    return config


# Variants whose parts are in others, too; their tests are slow.
VARIANTS = (
    "pre-training: distill",
    "distill cosine",
    "codir ema",
    "codir of tokens",
    "pre-training: codir of tokens",
    "relations",
    "pre-training: relations",
    "codir relation",
    "codir teacher cache of each, bank",
    "pre-training: distill cosine",
    "sentences: distill l2, batch",
    "sentences: ranking",
    "codir released",  # its golden numbers are held elsewhere
    "pre-training: distill l2 of tokens",
    "sentences: distill",
)

METHODS = {
    "distill l2": _config("distill", hidden_loss="l2"),
    "distill cosine": _config("distill", hidden_loss="cosine", pooling="first"),
    "codir": _config("codir", projection_dim=8, negatives={"num_negatives": 9}),
    "codir paper": _config("codir", projection_dim=8, negatives={"num_negatives": 5, "shared": False}),
    "codir released": _config("codir:released", projection_dim=8, negatives={"num_negatives": 5}),
    "codir per layer, queue": _config(
        "codir",
        projection_dim=8,
        layer_aggregation="per_layer",
        teacher_projection="frozen",
        negatives={"source": "in_batch+queue", "queue_size": 10, "label_aware": False, "mask_same_label": False},
    ),
    "codir teacher cache": _config(
        "codir",
        projection_dim=8,
        negatives={"source": "in_batch+teacher_cache", "num_negatives": 9, "shared": True, "num_hard": 2},
    ),
    "codir teacher cache of each, bank": _config(
        "codir",
        projection_dim=8,
        layer_aggregation="per_layer",
        layer_matches="1:1,1:2",
        negatives={"source": "in_batch+bank+teacher_cache", "num_negatives": 5, "shared": False, "num_hard": 2},
    ),
    "codir ema": _config("codir:released", projection_dim=8, normaliser="ema", negatives={"num_negatives": 5}),
    # Of 40 words, in three parts.
    "pre-training: masked_lm": _config("masked_lm", vocab_chunk_size=16),
    "pre-training: distill cosine": _config("distill", hidden_loss="cosine"),
    "pre-training: distill l2 of tokens": _config(
        "distill",
        hidden_loss="l2",
        hidden_unit="token",
        hidden_standardized=True,
        hidden_embeddings=True,
        head_from=0.5,
    ),
    "pre-training: codir": _config(
        "codir:pretrain", projection_dim=8, vocab_chunk_size=16, negatives={"queue_size": 10}
    ),
    "pre-training: codir of tokens": _config(
        "codir:pretrain",
        projection_dim=8,
        hidden_loss="l2",
        hidden_unit="token",
        layer_matches="1:1,1:2",
        layer_aggregation="per_layer",
        contrast={
            "unit": "token",
            "target": "teacher",
            "space": "centred",
            "keys_from": "same_text+batch+same_word+near_layers+queue",
            "num_sampled": 200,  # more than there are: the draw changes nothing
            "queue_size": 150,
        },
    ),
    "codir of tokens": _config(
        "codir",
        projection_dim=8,
        head_from=0.5,
        contrast={"unit": "token", "keys_from": "near_positions+batch", "num_sampled": 200},
    ),
    "codir relation": _config(
        "codir", projection_dim=8, contrast={"target": "teacher", "space": "centred"}, negatives={"num_negatives": 9}
    ),
    # A queue of fewer rows than two batches, so that it wraps around.
    "sentences: distill": _config("distill", similarity_queue_size=10),
    "sentences: distill l2, batch": _config("distill", vector_loss="l2", similarity_queue_size=0),
    "sentences: codir": _config(
        "codir:encoder", projection_dim=8, similarity_queue_size=10, negatives={"queue_size": 10}
    ),
    "sentences: ranking": _config("pair_supcon", classify_weight=0.0, instance="ranking", projection_dim=0),
}


# What the methods of a head are called here.
PREFIX = {"classification": "", "masked_lm": "pre-training: ", "embedding": "sentences: "}


def _head_of(name):
    """The head of a method: that of the longest prefix which fits."""
    return max((head for head in PREFIX if name.startswith(PREFIX[head])), key=lambda head: len(PREFIX[head]))


# The fields of every objective that is there, for every head that it serves.
for _name, _module in by_name.modules("codir_jax.objectives", ("default_config", "make", "HEADS")).items():
    # The state of a language model has a row for each of the batch's: test_language_model.py.
    for _head in (head for head in _module.HEADS if head in PREFIX):
        _method = PREFIX[_head] + _name
        if _method not in METHODS:
            METHODS[_method] = default_config_of(_name, _head)


def of_methods(with_teacher=False, heads=tuple(PREFIX)):
    """Their names as parameters of a test; `with_teacher`: of those that have one only."""
    slow = lambda name: [pytest.mark.slow] if name in VARIANTS else []  # noqa: E731
    names = [name for name in METHODS if not with_teacher or needs_teacher(METHODS[name].name)]
    names = [name for name in names if _head_of(name) in heads]
    return [pytest.param(name, marks=slow(name)) for name in names]


@functools.cache
def _make(name, **of_setting):
    """(setting, objective, its initial parts, jitted value and gradient), compiled once for all tests."""
    if _head_of(name) == "embedding" and needs_teacher(METHODS[name].name):
        of_setting = {"texts_per_row": 1, **of_setting}  # a sentence encoder is distilled text by text
    setting = tiny.SETTINGS[_head_of(name)](**of_setting)
    objective = make_objective(METHODS[name], setting)
    parts = jax.jit(lambda rng, batch: unbox(objective.init(rng, batch)))(jax.random.key(0), tiny.batch(setting))
    view = {}
    if needs_cache(METHODS[name]):
        every_row = tiny.batch(setting, np.arange(tiny.NUM_TRAIN))
        view = objective.teacher_view.rows(parts[1]["teacher"], every_row)
    made = tiny.tables(objective, view)
    assert jax.tree.map(jnp.shape, made) == {key: parts[1][key].shape for key in made}
    parts[1].update(made)

    def loss(params, teacher, rest, state, batch, step):
        return objective.loss(params, {**rest, **teacher}, state, batch, step)

    return setting, objective, parts, jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def _gradient(name, batch, rng, parts=None, **of_setting):
    """((loss, (state, metrics)), (gradient, that of the teacher's weights))."""
    _, _, own, gradient = _make(name, **of_setting)
    params, frozen, state = own if parts is None else parts
    teacher = {key: frozen[key] for key in ("teacher",) if key in frozen}
    rest = {key: value for key, value in frozen.items() if key not in teacher}
    return gradient(params, teacher, rest, state, batch, Step(rng))


def _batch(setting, num_padding=2):
    """14 rows and padding: one shape for most tests, so that what one of them has compiled serves the others."""
    return tiny.batch(setting, ids=np.arange(14), num_padding=num_padding)


def _assert_close(ours, theirs, tolerance=2e-6):
    """Leaf by leaf, relative to the largest number of the tree: some gradients (of a key's bias) are zero but for
    rounding."""
    largest = max(np.abs(np.asarray(leaf)).max(initial=1e-3) for leaf in jax.tree.leaves(theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=tolerance * largest)


@pytest.mark.parametrize("name", of_methods())
def test_a_step_is_finite_keeps_the_shape_of_the_state_and_sends_no_gradient_to_the_teacher(name):
    _assert_is_finite_and_keeps_shape(name)


@pytest.mark.parametrize("kind", ["is_regression", "is_multi_label"])
@pytest.mark.parametrize("name", ["finetune", pytest.param("distill l2", marks=pytest.mark.slow), "codir paper"])
def test_a_step_on_other_labels_is_finite_and_keeps_the_shape_of_the_state(name, kind):
    _assert_is_finite_and_keeps_shape(name, **{kind: True})


def _assert_is_finite_and_keeps_shape(name, **kind):
    setting, _, parts, _ = _make(name, **kind)
    (loss, (state, metrics)), (grads, of_teacher) = _gradient(name, _batch(setting), jax.random.key(1), **kind)
    assert np.isfinite(loss)
    assert not any(np.any(g) for g in jax.tree.leaves(of_teacher))
    assert bool(of_teacher) == needs_teacher(METHODS[name].name)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(lambda x: (x.shape, x.dtype), parts[2])
    assert all(np.isfinite(total) and count >= 0 for total, count in metrics.values())


@pytest.mark.parametrize("name", of_methods())
def test_eight_devices_give_the_loss_gradient_and_state_of_one(name):
    _assert_eight_devices_give_that_of_one(name)


@pytest.mark.parametrize("name", [pytest.param("codir teacher cache", marks=pytest.mark.slow), "codir paper"])
def test_eight_devices_give_that_of_one_where_a_text_has_several_classes(name):
    _assert_eight_devices_give_that_of_one(name, is_multi_label=True)


def test_texts_that_share_a_class_of_several_are_no_negatives_of_each_other():
    """Counted pair by pair; of the bank nothing was visited yet, so that all negatives are the batch's."""
    setting, *_ = _make("codir paper", is_multi_label=True)
    batch = _batch(setting)
    labels = setting.rows.labels[:14]
    expected = sum(i != j and not labels[i] @ labels[j] for i in range(14) for j in range(14))
    total, count = _gradient("codir paper", batch, jax.random.key(1), is_multi_label=True)[0][1][1]["num_negatives"]
    assert (float(total), float(count)) == (expected, 14) and 0 < expected < 14 * 13


def _assert_eight_devices_give_that_of_one(name, **kind):
    setting, _, parts, _ = _make(name, **kind)
    batch = _batch(setting)
    one = _gradient(name, batch, jax.random.key(1), **kind)
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    sharded = jax.device_put(batch, rules.batch_sharding(mesh))
    whole = jax.device_put(parts, rules.replicated(mesh))
    _assert_close(_gradient(name, sharded, jax.random.key(1), whole, **kind), one)


@pytest.mark.slow
def test_negatives_of_each_device_alone_would_give_another_loss():
    setting, objective, parts, _ = _make("codir per layer, queue")
    batch = tiny.batch(setting, ids=np.arange(16))
    loss = lambda b: objective.loss(*parts, b, Step())[1][1]["contrastive_loss"]  # noqa: E731
    whole = loss(batch)[0]
    parts_of_batch = [{k: v[2 * i : 2 * i + 2] for k, v in batch.items()} for i in range(8)]
    alone = sum(loss(part)[0] for part in parts_of_batch)
    assert whole > 1.5 * alone


@pytest.mark.parametrize(
    "name",
    [
        "finetune",
        "distill l2",
        "codir released",
        "codir per layer, queue",
        "pre-training: codir",
        pytest.param("pre-training: codir of tokens", marks=pytest.mark.slow),
        "sentences: pair_supcon",
        "sentences: distill",
        "supcl_seq",
        "linear_head",
    ],
)
def test_microbatches_give_the_loss_gradient_and_state_of_the_whole_batch(name):
    setting, _, parts, _ = _make(name)
    batch = _batch(setting)
    one = _gradient(name, batch, None)
    _assert_close(_gradient(name, batch, None, parts, num_microbatches=4), one)


@pytest.mark.parametrize("name", of_methods())
def test_padding_rows_change_nothing(name):
    setting, *_ = _make(name)
    plain = _gradient(name, _batch(setting, num_padding=0), None)
    padded = _gradient(name, _batch(setting), None)
    config = METHODS[name]
    draws = config.name == "codir" and config.contrast.unit == "text" and config.negatives.source != "in_batch+queue"
    if draws:
        # Sampled negatives differ with the batch's shape; the metrics that do not depend on them must agree.
        for term in ("task_loss", "soft_target_loss", "alignment", "uniformity"):
            _assert_close(padded[0][1][1][term], plain[0][1][1][term])
        if "bank" in padded[0][1][0]:
            _assert_close(padded[0][1][0]["bank"], plain[0][1][0]["bank"])
    else:
        _assert_close(padded, plain)


@pytest.mark.parametrize("name", of_methods(with_teacher=True, heads=("classification", "embedding")))
def test_a_teacher_view_in_the_batch_equals_the_live_teacher(name):
    setting, objective, parts, _ = _make(name)
    if objective.teacher_view is None:
        pytest.skip("nothing of its teacher can be kept")
    batch = _batch(setting)
    view = objective.teacher_view.rows(parts[1]["teacher"], batch)
    without_teacher = (parts[0], {k: v for k, v in parts[1].items() if k != "teacher"}, parts[2])
    live, (of_student, _) = _gradient(name, batch, jax.random.key(2))
    cached = _gradient(name, {**batch, **view}, jax.random.key(2), without_teacher)
    _assert_close(cached, (live, (of_student, {})))


@pytest.mark.parametrize("name", of_methods(with_teacher=True))
def test_the_teacher_is_deterministic_and_the_student_has_dropout(name):
    setting, objective, parts, _ = _make(name)
    batch = _batch(setting)
    if objective.teacher_view is not None:
        view, again = (objective.teacher_view.rows(parts[1]["teacher"], batch) for _ in range(2))
        _assert_close(view, again, tolerance=0)
    losses = {float(_gradient(name, batch, jax.random.key(seed))[0][0]) for seed in (1, 2)}
    runs_student = not getattr(objective_module(METHODS[name].name), "IS_WHOLE_TEACHER", False)  # or the teacher for it
    assert len(losses) == 1 + runs_student


def test_unlabelled_rows_join_the_soft_targets_and_not_the_task():
    setting, objective, parts, _ = _make("distill")
    labelled, unlabelled = [0, 1, 2, 3], [20, 21]
    metrics = tiny.loss(objective, parts, tiny.batch(setting, labelled + unlabelled))[1][1]
    only = tiny.loss(objective, parts, tiny.batch(setting, labelled))[1][1]
    assert metrics["task_loss"][1] == 4
    assert metrics["soft_target_loss"][1] == 6
    np.testing.assert_allclose(metrics["task_loss"][0], only["task_loss"][0], rtol=1e-6)


def test_a_narrower_student_is_joined_by_the_projections():
    for name in ("codir paper", "pre-training: distill l2 of tokens"):
        setting, *_ = _make(name, teacher_width=32)
        (loss, _), (grads, _) = _gradient(name, tiny.batch(setting), None, teacher_width=32)
        assert np.isfinite(loss)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_the_hidden_term_of_tokens_by_hand():
    """Every real token of a text counts alike, padding not at all."""
    name = "pre-training: distill l2 of tokens"
    setting, objective, parts, _ = _make(name)
    batch = tiny.batch(setting, ids=np.arange(6), num_padding=2)
    batch["attention_mask"] = np.array(batch["attention_mask"])
    batch["attention_mask"][:3, -2:] = 0
    metrics = tiny.loss(objective, parts, batch)[1][1]
    states = jax.jit(lambda module, params: apply_model(module, params, batch).hidden_states, static_argnums=0)
    student, teacher = states(setting.student, parts[0]["student"]), states(setting.teacher, parts[1]["teacher"])
    assert matches(METHODS[name], setting) == ((1, 2),)
    pairs = ((0, 0), (1, 2))  # the embeddings, too

    def unit(x):
        centred = np.asarray(x, np.float64) - np.mean(np.asarray(x, np.float64))
        return centred / np.linalg.norm(centred)

    texts = []
    for row in range(6):
        of_tokens = [
            np.mean([np.sum((unit(student[own][row, t]) - unit(teacher[its][row, t])) ** 2) for own, its in pairs])
            for t in np.flatnonzero(batch["attention_mask"][row])
        ]
        texts.append(np.mean(of_tokens))
    np.testing.assert_allclose(metrics["hidden_loss"][0], sum(texts), rtol=1e-5)
    assert metrics["hidden_loss"][1] == 6


@pytest.mark.parametrize("equal_start", [True, False])
def test_projections_that_start_equal_see_a_student_that_is_its_teacher_as_one(equal_start):
    setting = tiny.pretraining_setting()
    setting = dataclasses.replace(setting, teacher=setting.student)
    config = _config("codir:pretrain", projection_dim=8, layer_matches="1:1", equal_start=equal_start)
    objective = codir.make(config, setting)
    params, frozen, state = tiny.start(objective, tiny.batch(setting))
    frozen["teacher"] = params["student"]
    total, count = tiny.loss(objective, (params, frozen, state), tiny.batch(setting))[1][1]["alignment"]
    assert (total / count < 1e-6) == equal_start

    narrower = tiny.pretraining_setting(teacher_width=32)
    params = tiny.start(codir.make(config, narrower), tiny.batch(narrower))[0]
    assert params["projection_teacher"]["kernel"].shape[1] == 2 * params["projection_student"]["kernel"].shape[1]


def test_schedules_turn_a_term_on_over_the_run():
    setting = tiny.setting()
    config = _config("codir", projection_dim=8, contrastive_schedule="0%:0 50%:0 100%:1", contrastive_weight=1.0)
    objective = codir.make(config, setting)
    batch = tiny.batch(setting)
    parts = tiny.start(objective, batch)
    at = jax.jit(lambda progress: objective.loss(*parts, batch, Step(progress=progress)))

    def share(step):
        loss, (_, metrics) = at(step / 10)
        value = lambda n: metrics[n][0] / metrics[n][1]  # noqa: E731
        rest = 0.5 * value("task_loss") + 0.5 * value("soft_target_loss")
        return float((loss - rest) / value("contrastive_loss"))

    np.testing.assert_allclose([share(0), share(5), share(10)], [0, 0, 1], atol=1e-5)
