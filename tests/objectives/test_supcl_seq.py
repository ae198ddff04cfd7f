"""SupCL-Seq: the released loss, the rate of every pass, masks and what is left out, refusals; stage 2 as it is run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert import pretrained
from codir_jax.data.tokenizer import save_tokenizer
from codir_jax.data.tokenizer_training import train_wordpiece
from codir_jax.losses.contrastive import unit_rows
from codir_jax.models.heads import build_model
from codir_jax.objectives import supcl_seq
from codir_jax.objectives.contract import Step
from codir_jax.objectives.sums import mean
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from codir_jax.stage import config as stage_config
from codir_jax.stage import run
from tests.losses.test_contrastive import lin
from tests.objectives import tiny


def _config(preset="paper", **changes):
    config = supcl_seq.default_config(preset)
    config.update(changes)
    return config


@functools.cache
def _terms(**changes):
    config = _config(**changes)
    return jax.jit(lambda features, batch: supcl_seq.contrast_terms(config, unit_rows(features), batch))


def _batch(classes, text_ids=None):
    classes = np.asarray(classes)
    return {
        "example_mask": jnp.ones(len(classes)),
        "labels": jnp.asarray(np.maximum(classes, 0), jnp.int32),
        "label_mask": jnp.asarray(classes >= 0, jnp.float32),
        "text_ids": jnp.arange(len(classes)) if text_ids is None else jnp.asarray(text_ids),
    }


FEATURES = lin((4, 3, 5), b=1.3)


@pytest.mark.parametrize(
    ("changes", "classes", "expected"),
    [
        ({"temperature": 0.05}, (0, 1, 0, 1), 16.1186466),
        ({"temperature": 0.5}, (0, 1, 0, 1), 24.8068066),
        ({"temperature": 0.5}, (-1, -1, -1, -1), 28.3173733),  # without labels
        ({"temperature": 0.5}, (0, 1, 2, 3), 28.3173733),
        ({"temperature": 0.5, "supervised": False}, (0, 1, 0, 1), 28.3173733),
    ],
)
def test_the_contrast_of_all_views_meets_the_released_loss(changes, classes, expected):
    found = _terms(base_temperature=0.07, **changes)(FEATURES, _batch(classes))
    np.testing.assert_allclose(mean(found["contrastive_loss"]), expected, rtol=1e-6)
    plain = _terms(**changes)(FEATURES, _batch(classes))
    np.testing.assert_allclose(mean(plain["contrastive_loss"]), expected * 0.07 / changes["temperature"], rtol=1e-6)
    num_positives = 5 if classes == (0, 1, 0, 1) and "supervised" not in changes else 2
    np.testing.assert_allclose(mean(plain["num_positives"]), num_positives)
    excess = mean(plain["contrastive_loss"]) - np.log(num_positives)
    np.testing.assert_allclose(mean(plain["excess_loss"]), excess, rtol=1e-5)


def test_an_equal_text_of_another_class_is_no_negative_and_one_of_the_same_class_stays_a_positive():
    terms = _terms()
    found = terms(FEATURES, _batch((0, 1, 0, 1), text_ids=(0, 0, 0, 3)))
    # Of rows 0 and 2 the 3 views of row 1, of row 1 the 6 of rows 0 and 2; row 3 has none.
    assert found["num_masked"] == (3 + 6 + 3, 4)
    np.testing.assert_allclose(mean(found["num_positives"]), 5)
    # Two rows that are masked for each other may lie anywhere to each other.
    moved = FEATURES.copy()
    moved[1] = -FEATURES[1]
    ours, theirs = (terms(x[:2], _batch((0, 1), text_ids=(0, 0)))["contrastive_loss"] for x in (FEATURES, moved))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert _terms(mask_same_text=False)(FEATURES, _batch((0, 1, 0, 1), (0, 0, 0, 3)))["num_masked"][0] == 0


def test_an_anchor_without_a_positive_is_left_out_and_counted():
    features = FEATURES[:, :1]
    value = jax.jit(jax.value_and_grad(lambda x, batch: mean(_terms()(x, batch)["contrastive_loss"])))
    loss, gradient = value(features, _batch((0, 1, 0, 2)))
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    assert _terms()(features, _batch((0, 1, 0, 2)))["left_out"] == (2, 4)
    loss, gradient = value(features, _batch((0, 1, 2, 3)))
    assert loss == 0 and not np.any(gradient)


@pytest.mark.parametrize("rates", [(0.0, 0.1), pytest.param((0.1, 0.0, 0.0, 0.2), marks=pytest.mark.slow), (0.3, 0.3)])
def test_every_pass_has_its_own_rate_in_every_step(monkeypatch, rates):
    model = build_model(tiny.sizes(1, hidden_size=64, dropout=0.1), "classification", 3)
    setting = dataclasses.replace(tiny.setting(), student=model)
    config, batch = _config(dropout_rates=rates), tiny.batch(setting)
    objective = supcl_seq.make(config, setting)
    params, _, _ = jax.jit(lambda: unbox(objective.init(jax.random.key(0), batch)))()
    apply_model = supcl_seq.apply_model

    @jax.jit
    def run(rng):
        outputs = []

        def watched(*args, **more):
            outputs.append(apply_model(*args, **more))
            return outputs[-1]

        with monkeypatch.context() as patch:
            patch.setattr(supcl_seq, "apply_model", watched)
            views = supcl_seq.views_of(config, model, params["student"], batch, rng)
        return views, [output.hidden_states[0] for output in outputs]

    for step in (1, 3):
        views, embeddings = run(jax.random.fold_in(jax.random.key(2), step))
        assert views.shape == (8, len(rates), 64)
        if len(set(rates)) == 1:  # one pass, tiled
            (embeddings,) = embeddings
            embeddings = embeddings.reshape(8, len(rates), *embeddings.shape[1:]).swapaxes(0, 1)
        zeros = [float((layer == 0).mean()) for layer in embeddings]
        np.testing.assert_allclose(zeros, rates, atol=0.02)
        for i, rate in enumerate(rates):
            for j in range(i):
                is_same = np.array_equal(views[:, i], views[:, j])
                assert is_same == (rate == rates[j] == 0)


def test_in_control_of_the_contrast_the_classifier_learns_from_every_view():
    setting = tiny.setting()
    objective = supcl_seq.make(_config(task_weight=1.0, contrastive_weight=0.0), setting)
    batch = tiny.batch(setting)
    params, frozen, state = jax.jit(lambda: unbox(objective.init(jax.random.key(0), batch)))()
    gradient_of = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (loss, (_, metrics)), gradient = gradient_of(params, frozen, state, batch, Step(jax.random.key(1)))
    assert set(metrics) == {"task_loss"} and np.isclose(loss, mean(metrics["task_loss"]))
    assert np.any(gradient["student"]["classifier"]["kernel"]) and np.any(gradient["student"]["pooler"]["kernel"])
    assert supcl_seq.probed_vectors(_config(task_weight=1.0)) is None


def test_what_no_contrast_can_be_made_of_is_refused_before_training():
    with pytest.raises(UserError, match=r"contrasts classes, and the labels are numbers"):
        supcl_seq.make(_config(), tiny.setting(is_regression=True))
    setting = tiny.setting()

    def with_labels(labels):
        return dataclasses.replace(setting, rows=setting.rows._replace(labels=np.asarray(labels, np.int32)))

    with pytest.raises(UserError, match="has 1 class with a label"):
        supcl_seq.make(_config(), with_labels(np.zeros(24)))
    with pytest.raises(UserError, match="every class has one train text"):
        supcl_seq.make(_config(), with_labels(np.arange(24)))
    alone = with_labels(np.where(np.arange(24) == 0, 7, np.arange(24) % 2))
    supcl_seq.make(_config(), alone)  # its other view belongs to it
    with pytest.raises(UserError, match="class number 7 has one train text"):
        supcl_seq.make(_config(dropout_rates=(0.1,)), alone)
    for changes, told in (
        ({"dropout_rates": ()}, "give one rate at least"),
        ({"dropout_rates": (1.0,)}, "each a finite number, 0 or more and below 1"),
        ({"view": "cls"}, "one of pooler, mean"),
        ({"temperature": 0.0}, "temperature=0.0: expected a finite number, above 0"),
        ({"contrastive_weight": 0.0}, "are both 0"),
        ({"view": "mean", "task_weight": 1.0}, "reads objective.view='pooler'"),
        ({"supervised": False, "dropout_rates": (0.1,)}, "give two rates or more"),
    ):
        with pytest.raises(UserError, match=told):
            supcl_seq.check(_config(**changes))
    config = config_lib.load(
        "configs/supcl_seq/linear_head.py:tiny", [("teacher.path", "x"), ("student.num_layers", "1")]
    )
    with pytest.raises(UserError, match=r"goes on with the whole teacher; .*num_layers=-1"):
        stage_config.check(config)
    for spec in ("configs/supcl_seq/contrast.py:demo", "configs/pair_supcon/train.py:demo"):
        with pytest.raises(UserError, match=r"data\.batch_size=1: .*at least 2 rows"):
            stage_config.check(config_lib.load(spec, [("data.batch_size", "1")]))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([f"class {i}" for i in range(8)], "every class has one train text"),
        ([f"{i / 7:.3f}" for i in range(8)], r"train\.tsv: the labels are numbers such as 0\.000"),
        (["same"] * 8, r"train\.tsv: only one class, 'same'"),
        (["yes", "no", "", "yes"], r"train\.tsv:4: empty label"),
    ],
)
def test_labels_that_no_contrast_can_be_made_of_are_refused_before_training(tmp_path, monkeypatch, labels, told):
    monkeypatch.setattr(run.loop, "run", lambda *_, **__: pytest.fail("something was trained"))
    path = tmp_path / "train.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels)))
    config = config_lib.load(
        "configs/supcl_seq/contrast.py:tiny",
        [("data.name", "text_classification"), ("data.train_path", str(path)), ("data.dev_path", str(path))],
    )
    save_tokenizer(train_wordpiece(["text 0 1 2 3 4 5 6 7"], 60), tmp_path / "tokenizer")
    config.tokenizer_path = str(tmp_path / "tokenizer")
    with pytest.raises(UserError, match=told):
        run.run(config, tmp_path / "run")


@pytest.mark.slow
def test_stage_2_trains_the_classifier_alone_on_vectors_that_are_computed_once(tmp_path, capsys):
    small = [("data.demo_num_train", "256"), ("data.demo_num_dev", "64")]
    first = run.run(config_lib.load("configs/supcl_seq/contrast.py:tiny", small), tmp_path / "one")
    assert 0 <= first["dev"]["accuracy"] <= 1  # of the probe
    more = [("teacher.path", str(tmp_path / "one")), ("teacher.cache_dir", str(tmp_path / "cache"))]
    config = config_lib.load("configs/supcl_seq/linear_head.py:tiny", [*small, *more])
    run.run(config, tmp_path / "two")
    assert "one pass over 256 of 256 train examples" in capsys.readouterr().out
    before, after = (pretrained.load_pretrained(tmp_path / name / "best") for name in ("one", "two"))
    for name in ("encoder", "pooler"):
        jax.tree.map(np.testing.assert_array_equal, before.params[name], after.params[name])
    assert np.any(before.params["classifier"]["kernel"] != after.params["classifier"]["kernel"])
    live = config.copy_and_resolve_references()
    live.teacher.cache = "off"
    run.run(live, tmp_path / "live")
    again = pretrained.load_pretrained(tmp_path / "live" / "best").params["classifier"]["kernel"]
    np.testing.assert_allclose(again, after.params["classifier"]["kernel"], atol=1e-5)
