"""A run trains the rows of its train set's words only, and nothing but unseen rows ends otherwise for it."""

import dataclasses

import jax
import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.benchmark.subject import make
from codir_jax.compression import methods
from codir_jax.convert import pretrained
from codir_jax.models.sizes import named
from codir_jax.models.word_table import WORD_TABLE
from codir_jax.stage import run, seen_words
from codir_jax.stage.assembled import Stage
from codir_jax.tasks.contract import train_batches

DISTILL = "configs/codir/finetune_distill.py:tiny"
SIZES = dataclasses.replace(named("tiny"), vocab_size=640)


def _stage(**overrides):
    """A stage of random texts of a tenth of the words."""
    settings = {"data.batch_size": "16", "optimizer.weight_decay": "0.0", "optimizer.learning_rate": "0.01"}
    subject = make(config_lib.load(DISTILL, list((settings | overrides).items())), model=SIZES, fixed_length=8)
    train = subject.stage.task.data.splits["train"]
    tokens = np.where(train.tokens > 63, train.tokens % 60 + 4, train.tokens)
    task = subject.stage.task
    task.data = dataclasses.replace(
        task.data, splits=task.data.splits | {"train": dataclasses.replace(train, tokens=tokens)}
    )
    stage = subject.stage
    return Stage.of(stage.config, parts=(task, stage.student, stage.teacher), num_steps=4)


def _trained(stage):
    """(state, trained params) after 3 steps with a live teacher."""
    abstract = stage.abstract_state(live=True)
    state, frozen = stage.start(abstract, {}, stage.teacher.placed(*stage.layout))
    step = stage.initial_state.step(abstract)
    for batch in train_batches(stage.feed, 0, 3, {}):
        state, metrics = step(state, frozen, batch)
    return state, jax.device_get(stage.whole(state.params)), jax.device_get(metrics)


def _table(params):
    for name in WORD_TABLE:
        params = params[name]
    return params


@pytest.fixture(scope="module")
def both():
    return [_trained(_stage(**{"student.word_rows": mode})) for mode in seen_words.MODES]


def test_a_step_has_the_rows_of_the_train_set_only(both):
    (seen, _, _), (whole, _, _) = both
    assert _table(seen.params["student"]).shape == (128, 32)
    assert _table(whole.params["student"]).shape == (640, 32)
    moments = [leaf for leaf in jax.tree.leaves(seen.opt_state) if leaf.ndim == 2 and leaf.shape[0] == 640]
    assert not moments


def test_all_weights_end_as_with_the_whole_table(both):
    (_, seen, ours), (_, whole, theirs) = both
    assert jax.tree.structure(seen) == jax.tree.structure(whole)
    for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    np.testing.assert_allclose(ours["loss"][0], theirs["loss"][0], rtol=1e-5)


def test_rows_of_other_words_stay_bit_for_bit(both):
    stage = _stage()
    start, end = _table(stage.student.params), _table(both[0][1]["student"])
    rest = np.setdiff1d(np.arange(640), stage.seen_words.ids)
    np.testing.assert_array_equal(end[rest], np.asarray(start)[rest])
    assert (end[stage.feed.seen_tokens] != np.asarray(start)[stage.feed.seen_tokens]).any(axis=1).all()


@pytest.mark.parametrize("split", ["model", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_tables_split_over_devices_are_cut_alike(both, split):
    mesh = {"mesh.data": "4", f"mesh.{split}": "2"}
    _, seen, _ = _trained(_stage(**mesh))
    for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(both[0][1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_student_with_factors_elsewhere_trains_the_seen_rows():
    stage = _stage()
    steps = methods.parse("rank2@encoder/layer.*kernel")
    params = methods.tree_of(methods.compress(jax.device_get(stage.student.params), steps)[0])
    student = dataclasses.replace(stage.student, params=params)
    stage = Stage.of(stage.config, parts=(stage.task, student, stage.teacher), num_steps=4)
    state, trained, metrics = _trained(stage)
    assert stage.seen_words and np.isfinite(metrics["loss"][0])
    assert _table(state.params["student"]).shape == (128, 32) and _table(trained["student"]).shape == (640, 32)


def test_a_run_leaves_a_model_of_all_words(tmp_path):
    small = [("data.demo_num_train", "64"), ("data.demo_num_dev", "32"), ("data.batch_size", "32")]
    run.run(config_lib.load("configs/codir/finetune_teacher.py:tiny", small), tmp_path / "teacher")
    config = config_lib.load(DISTILL, [*small, ("teacher.path", str(tmp_path / "teacher"))])
    started = []
    run.run(config, tmp_path / "straight", on_start=lambda stage, *_: started.append(stage.seen_words) or "")
    best = pretrained.load_pretrained(tmp_path / "straight" / "best", head="classification", num_labels=2)
    assert best.config.vocab_size == started[0].vocab_size > len(started[0].ids)
