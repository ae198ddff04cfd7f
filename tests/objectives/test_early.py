"""`head_from`: before it nothing of the head is in a step, after it the step is that of a run without it."""

import jax
import numpy as np
import pytest

from codir_jax.objectives import codir, distill
from codir_jax.objectives.contract import Step
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import placement
from codir_jax.training import loop
from codir_jax.training.metrics import MetricBuffer
from tests.objectives import tiny

SETTING = tiny.pretraining_setting()
BATCH = tiny.batch(SETTING, np.arange(8))


def _config(**changes):
    config = distill.default_config()
    config.update({"hidden_loss": "l2", "hidden_unit": "token", "hidden_weight": 4.0, "head_from": 0.75, **changes})
    return config


def test_the_early_loss_is_the_hidden_term_and_the_late_one_that_of_a_run_without_it():
    objective = distill.make(_config(), SETTING)
    parts = tiny.start(objective, BATCH)
    value, (state, metrics) = tiny.loss(objective.early, parts, BATCH, Step(progress=0.2))
    assert set(metrics) == {"hidden_loss"} and state == parts[2]
    np.testing.assert_allclose(value, 4 * metrics["hidden_loss"][0] / metrics["hidden_loss"][1], rtol=1e-6)
    late = tiny.loss(objective, parts, BATCH, Step(progress=0.8))[0]
    without = distill.make(_config(head_from=0.0), SETTING)
    assert without.early is None and late == tiny.loss(without, parts, BATCH, Step(progress=0.8))[0]
    # The summands, one by one, are the loss.
    by_term = [tiny.loss(objective, parts, BATCH, Step(progress=0.8, term=name))[0] for name in objective.terms]
    np.testing.assert_allclose(sum(by_term), late, rtol=1e-6)


def test_the_early_step_has_no_product_with_the_vocabulary_and_the_state_of_the_late_one():
    """40 words are the width of no other array of this model and batch."""
    placed = tiny.Placed.make(distill.make(_config(), SETTING), (1, 1, 1), BATCH)
    assert placed.start.num_early_steps == 15
    early = placed.start.step(placed.abstract, is_early=True)
    batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=placed.split) for k, v in BATCH.items()}
    products = lambda step: [  # noqa: E731
        line for line in step.lower(*placed.abstract, batch).as_text().splitlines() if "dot_general" in line
    ]
    with_words = lambda lines: [line for line in lines if "x40x" in line or "<40x" in line]  # noqa: E731
    assert with_words(products(placed.step)) and not with_words(products(early))

    state = placed.start.fill_state(placed.abstract[0], None)
    frozen = placed.start.fill_frozen(placed.abstract[1], {})
    shape = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state)
    state, _ = early(state, frozen, placement.put_batch(BATCH, placed.split))
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state) == shape


def test_the_loop_changes_steps_where_a_resumed_run_does():
    calls = []

    def named(name):
        return lambda state, frozen, batch: (calls.append(name), (state, {}))[1]

    def run(start, end):
        loop.run(
            named("late"),
            0,
            {},
            [{}] * (end - start),
            start_step=start,
            num_steps=6,
            buffer=MetricBuffer(),
            hooks=[],
            on_stop=lambda *_: None,
            early=(4, named("early")),
        )

    run(0, 6)
    assert calls == ["early"] * 4 + ["late"] * 2
    for cut in (3, 4, 5):
        calls.clear()
        run(0, cut)
        run(cut, 6)
        assert calls == ["early"] * 4 + ["late"] * 2


@pytest.mark.parametrize("changes", [{"hidden_loss": "none"}, {"hidden_weight": 0.0}])
def test_a_run_that_begins_without_any_loss_is_refused(changes):
    with pytest.raises(UserError, match="there would be no loss"):
        distill.check(_config(**changes))
    codir.check(_codir(**changes))  # there the contrastive term is one


def _codir(**changes):
    config = codir.default_config("pretrain")
    config.update({"head_from": 0.75, "hidden_loss": "l2", **changes})
    return config
