"""What devices send each other in a step, read from the compiled program: features, ids and gradients of weights."""

import collections
import functools
import math

import jax
import numpy as np
import pytest

from codir_jax.objectives import codir, finetune
from codir_jax.sharding import collectives
from tests.objectives import tiny

BATCH = 64
DIM = 4  # of the projections


def _objective(source, **of_setting):
    if source == "pre-training":
        config = codir.default_config("pretrain")
        config.update({"projection_dim": DIM, "vocab_chunk_size": 16})
        return tiny.pretraining_setting(), codir.make(config, tiny.pretraining_setting())
    setting = tiny.setting(**of_setting)
    if source == "finetune":
        return setting, finetune.make(finetune.default_config(), setting)
    config = codir.default_config()
    config.projection_dim = DIM
    source, _, own = source.partition(", ")
    config.negatives.update({"source": source, "num_negatives": 6, "queue_size": 4096})
    if own:
        config.negatives.update({"shared": False, "num_hard": 2})
    return setting, codir.make(config, setting)


@functools.cache
def _compiled(source, shape=(8, 1, 1), bank_rows=0, **of_setting):
    """(compiled step, tiny.Placed)."""
    setting, objective = _objective(source, **of_setting)
    example = tiny.batch(setting, np.arange(BATCH) % tiny.NUM_TRAIN)
    placed = tiny.Placed.make(objective, shape, example)
    state, frozen = placed.abstract
    if bank_rows:
        longer = lambda x: jax.ShapeDtypeStruct((bank_rows, *x.shape[1:]), x.dtype, sharding=x.sharding)  # noqa: E731
        tables = ("train_rows", "sorted_rows", "teacher_pooled", "neighbours")
        frozen = frozen | {name: longer(frozen[name]) for name in tables if name in frozen}
        kept = [name for name in ("bank", "bank_visited") if name in state.objective_state]
        banks = {name: jax.tree.map(longer, state.objective_state[name]) for name in kept}
        state = state._replace(objective_state={**state.objective_state, **banks})
    return placed.compile(example, (state, frozen)), placed


def _sent(compiled, placed):
    """Counter of (kind, shape) of what is sent, apart from scalars and what has the shape of a gradient."""
    sizes = lambda shape: tuple(sorted(n for n in shape if n > 1))  # noqa: E731
    parameters = {sizes(leaf.shape) for leaf in jax.tree.leaves(placed.abstract[0].params)}

    def is_gradient(shape):
        """A gradient is summed in its parameter's shape, or that of a part of it or of its transpose; or with heads."""
        merged = [(*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :]) for i in range(len(shape) - 1)]
        given = [sizes(one) for one in (shape, *(merged if len(shape) == 3 else ()))]
        pairs = ((p, size) for p in parameters for size in given if len(p) == len(size))
        return BATCH not in shape and any(all(a <= b for a, b in zip(size, p, strict=True)) for p, size in pairs)

    found = collections.Counter()
    for one in collectives.parse(compiled.as_text()):
        for dtype, shape in one.shapes:
            if sizes(shape) and not is_gradient(shape):
                found[one.kind, dtype, shape] += 1
    return found


def test_fine_tuning_sends_gradients_and_sums_only():
    assert not _sent(*_compiled("finetune"))


def test_codir_gathers_the_features_of_each_side_once():
    sent = _sent(*_compiled("in_batch+bank"))
    gathered = {shape: n for (kind, dtype, shape), n in sent.items() if kind == "all-gather" and dtype == "f32"}
    assert gathered == {(BATCH, 1, DIM): 2}
    # Besides: the ids; the features' gradient on its way back; the bank's rows, 6 drawn and those of the batch.
    assert {shape for kind, dtype, shape in sent if kind == "all-gather" and dtype != "f32"} <= {(BATCH, 3), (BATCH,)}
    summed = {
        math.prod(shape): n for (kind, dtype, shape), n in sent.items() if kind == "all-reduce" and dtype == "f32"
    }
    assert {size: n for size, n in summed.items() if size > BATCH} == {BATCH * DIM: 2, (6 + BATCH) * DIM: 2}
    assert {kind for kind, _, _ in sent} == {"all-gather", "all-reduce"}


@pytest.mark.parametrize("source", ["in_batch+bank", "in_batch+queue", "in_batch+teacher_cache", "pre-training"])
def test_no_collective_grows_with_hidden_size_times_batch(source):
    compiled, placed = _compiled(source)
    hidden = placed.abstract[0].params["student"]["encoder"]["embeddings"]["word"]["embedding"].shape[1]
    assert max(math.prod(shape) for _, _, shape in _sent(compiled, placed)) < BATCH * hidden


@pytest.mark.parametrize("shape", [pytest.param((8, 1, 1), marks=pytest.mark.slow), (2, 2, 2)])
def test_no_device_ever_has_the_whole_bank_or_table(shape):
    rows = 2**20
    compiled, placed = _compiled("in_batch+bank", shape, bank_rows=rows)
    share = rows // 8 * (2 * DIM * 4 + 2 * 4)  # the bank of both sides, class and text number
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < share / 4
    assert memory.argument_size_in_bytes < share + share / 4
    assert not any(rows // 8 in shape or rows in shape for _, _, shape in _sent(compiled, placed))


@pytest.mark.parametrize("shape", [pytest.param((8, 1, 1), marks=pytest.mark.slow), (2, 2, 2)])
def test_no_device_ever_has_a_whole_table_where_each_example_draws_its_own_rows(shape):
    rows, (width, matches, neighbours) = 2**20, (16, 1, 16)
    compiled, placed = _compiled("in_batch+teacher_cache, own", shape, bank_rows=rows)
    share = rows // 8 * 4 * (2 + 1 + width * matches + neighbours)  # facts, rows by class, teacher's states, neighbours
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < share / 8
    assert memory.argument_size_in_bytes < 1.1 * share
    assert not any(rows // 8 in shape or rows in shape for _, _, shape in _sent(compiled, placed))


def test_no_device_ever_has_the_whole_queue():
    sent = _sent(*_compiled("in_batch+queue"))
    assert not any(4096 in shape or 4096 // 8 in shape for _, _, shape in sent)


@pytest.mark.slow
def test_microbatches_send_no_more_than_one_batch():
    whole, parts = (_sent(*_compiled("in_batch+bank", num_microbatches=num)) for num in (1, 4))
    assert parts.total() <= whole.total()
    floats = lambda sent: sum(n * math.prod(shape) for (_, _, shape), n in sent.items())  # noqa: E731
    assert floats(parts) <= floats(whole)
