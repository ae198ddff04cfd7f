"""Negatives from the teacher cache: loss and gradient derived anew, rows counted once, hard ones, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.negatives import neighbours
from codir_jax.objectives import codir
from codir_jax.objectives.contract import Step
from codir_jax.objectives.contrastive_term import contrastive_term
from codir_jax.objectives.projections import project
from codir_jax.sharding import mesh as meshes
from codir_jax.sharding.rules import batch_sharding, unbox
from tests.negatives.structure import largest_made
from tests.objectives import tiny

NUM_TRAIN, MATCHES, WIDTH, DIM = 12, 2, 6, 4
RNG = np.random.default_rng(0)
POOLED = RNG.normal(size=(NUM_TRAIN, MATCHES, WIDTH)).astype(np.float32)
STUDENT = RNG.normal(size=(4, 1, DIM)).astype(np.float32)
STUDENT /= np.linalg.norm(STUDENT, axis=-1, keepdims=True)
PROJECTION = {
    "kernel": RNG.normal(size=(1, MATCHES * WIDTH, DIM)).astype(np.float32),
    "bias": RNG.normal(size=(1, DIM)).astype(np.float32),
}
CLASSES = np.array([0, 1, 0, 1, 1, 0, -1, 1, 0, 1, 0, 1, -1], np.int32)
TEXT_IDS = np.array([0, 1, 2, 3, 4, 1, 6, 7, 8, 9, 10, 11], np.int32)  # rows 1 and 5 are one text
IDS = np.array([1, 2, 6, NUM_TRAIN], np.int32)  # the last row is padding
POOL = np.array([5, 7, 2, 8, 7, -1, 3, 1, 0], np.int32)  # a row twice, a missing one, rows of the batch
BATCH = {
    "example_ids": IDS,
    "text_ids": np.append(TEXT_IDS[IDS[:3]], -1).astype(np.int32),
    "example_mask": np.array([1, 1, 1, 0], np.float32),
}
FROZEN = {"train_rows": jnp.stack([jnp.asarray(CLASSES), jnp.append(jnp.asarray(TEXT_IDS), -1)], axis=1)}


def _config(source="in_batch+teacher_cache", **changes):
    config = codir.default_config()
    config.update({"projection_dim": DIM, **changes})
    config.negatives.update({"source": source, "shared": True})
    return config


def _ours(config, projection):
    batch_pooled = POOLED[np.minimum(IDS, NUM_TRAIN - 1)]
    features = {"student": STUDENT, "teacher": project(projection, batch_pooled, config)}
    pool = {"ids": jnp.asarray(POOL), "features": project(projection, POOLED[np.maximum(POOL, 0)], config)}
    losses, _, metrics = contrastive_term(config, features, {}, FROZEN, BATCH, pool=pool, num_train=NUM_TRAIN)
    return losses, metrics


def _counts(i, row, mask_same_label=True):
    """Whether train row `row` is a negative of batch row i, by the rules alone."""
    own = IDS[i]
    same_label = mask_same_label and CLASSES[own] >= 0 and CLASSES[own] == CLASSES[row]
    return row != own and TEXT_IDS[own] != TEXT_IDS[row] and not same_label


def _derived(projection, in_batch, anchors, mask_same_label=True):
    """Losses of the three real rows, each row a sum over the set of its negatives; {row of train: teacher feature}."""
    centred = POOLED - POOLED.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    teacher = scaled.reshape(NUM_TRAIN, -1) @ projection["kernel"][0] + projection["bias"][0]
    teacher = teacher / jnp.linalg.norm(teacher, axis=-1, keepdims=True)
    losses, numbers = [], []
    for i in range(3):
        positive = STUDENT[i, 0] @ teacher[IDS[i]] / 0.07
        rows = {int(r) for r in POOL if r >= 0} | ({int(r) for r in IDS[:3]} if in_batch else set())
        rows = [r for r in sorted(rows) if _counts(i, r, mask_same_label)]
        numbers.append(len(rows))
        terms = [jnp.log(jnp.exp(jnp.stack([positive] + [STUDENT[i, 0] @ teacher[r] / 0.07 for r in rows])).sum())]
        if anchors == "both":
            others = [j for j in range(3) if j != i and _counts(i, IDS[j], mask_same_label)]
            against = [positive] + [teacher[IDS[i]] @ STUDENT[j, 0] / 0.07 for j in others]
            terms.append(jnp.log(jnp.exp(jnp.stack(against)).sum()))
        losses.append(sum(terms) / len(terms) - positive)
    return jnp.stack(losses), numbers


@pytest.mark.parametrize(("source", "anchors"), [("in_batch+teacher_cache", "both"), ("teacher_cache", "student")])
def test_loss_and_gradient_of_the_projection_equal_a_sum_over_the_set_of_usable_rows(source, anchors):
    config = _config(source, anchors=anchors)
    in_batch = "in_batch" in source
    ours, metrics = _ours(config, PROJECTION)
    derived, numbers = _derived(PROJECTION, in_batch, anchors)
    np.testing.assert_allclose(ours[:3], derived, rtol=2e-5)
    assert ours[3] == 0
    assert float(metrics["num_negatives"][0]) == sum(numbers)
    gradient = jax.jit(jax.grad(lambda p: _ours(config, p)[0].sum()))(PROJECTION)
    expected = jax.jit(jax.grad(lambda p: _derived(p, in_batch, anchors)[0].sum()))(PROJECTION)
    for name in PROJECTION:
        np.testing.assert_allclose(gradient[name], expected[name], atol=2e-5 * np.abs(expected[name]).max())


def test_a_shared_pool_is_label_aware_though_it_is_drawn_from_all_classes():
    config = _config("teacher_cache", anchors="student")
    config.negatives.mask_same_label = False
    np.testing.assert_allclose(_ours(config, PROJECTION)[0][:3], _derived(PROJECTION, False, "student")[0], rtol=2e-5)
    config.negatives.label_aware = False
    derived, _ = _derived(PROJECTION, False, "student", mask_same_label=False)
    np.testing.assert_allclose(_ours(config, PROJECTION)[0][:3], derived, rtol=2e-5)


def _brute_force(vectors, classes, text_ids, num, ceiling, same_label, same_text):
    table = np.full((len(vectors), num), -1)
    for i, own in enumerate(vectors):
        cosines = vectors @ own
        usable = [
            j
            for j in range(len(vectors))
            if j != i
            and cosines[j] <= ceiling
            and not (same_text and text_ids[i] == text_ids[j])
            and not (same_label and classes[i] >= 0 and classes[i] == classes[j])
        ]
        best = sorted(usable, key=lambda j: -cosines[j])[:num]
        table[i, : len(best)] = best
    return table


@pytest.mark.parametrize(("same_label", "same_text"), [(True, True), (False, True), (False, False)])
def test_neighbours_are_those_of_a_search_row_by_row_whatever_the_chunk(same_label, same_text):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(37, 5)).astype(np.float32)
    vectors[20] = vectors[3] + 0.01 * vectors[4]  # a near-duplicate
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = rng.integers(-1, 2, 37).astype(np.int32)
    classes[:3] = 2
    text_ids = np.where(np.arange(37) < 6, 0, np.arange(37)).astype(np.int32)
    expected = _brute_force(vectors, classes, text_ids, 6, 0.9, same_label, same_text)
    assert 20 not in expected[3]
    for chunk_size in (8, 37, 64):
        found = neighbours.nearest(
            jnp.asarray(vectors),
            jnp.asarray(classes),
            jnp.asarray(text_ids),
            num_neighbours=6,
            similarity_ceiling=0.9,
            mask_same_label=same_label,
            mask_same_text=same_text,
            chunk_size=chunk_size,
        )
        np.testing.assert_array_equal(found, expected)


def test_any_number_of_devices_searches_for_neighbours():
    vectors = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    options = {"similarity_ceiling": 0.9, "mask_same_label": True, "mask_same_text": True, "num_neighbours": 3}
    given = [jnp.asarray(vectors), jnp.full(20, -1), jnp.arange(20)]
    split = batch_sharding(meshes.make_mesh({"data": 6, "fsdp": 1, "model": 1}, jax.devices()[:6]))
    found = neighbours.nearest(*given, chunk_size=8, split=split, **options)
    np.testing.assert_array_equal(found, neighbours.nearest(*given, **options))


def test_a_row_without_enough_neighbours_has_none_in_their_place():
    vectors = jnp.eye(3)[jnp.asarray([0, 0, 1])]
    options = {"similarity_ceiling": 0.98, "mask_same_label": True, "mask_same_text": True}
    found = neighbours.nearest(vectors, jnp.asarray([0, 1, 1]), jnp.arange(3), num_neighbours=4, **options)
    np.testing.assert_array_equal(found, [[2, -1, -1, -1], [-1] * 4, [0, -1, -1, -1]])


@functools.cache
def _objective(**negatives):
    setting = tiny.setting()
    config = codir.default_config()
    config.projection_dim = 8
    config.negatives.update({"source": "in_batch+teacher_cache", "shared": True, **negatives})
    objective = codir.make(config, setting)
    parts = jax.jit(lambda rng: unbox(objective.init(rng, tiny.batch(setting))))(jax.random.key(0))
    shape = (tiny.NUM_TRAIN, *parts[1]["teacher_pooled"].shape[1:])
    pooled = jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.bfloat16)
    parts[1].update(tiny.tables(objective, {"teacher_pooled": pooled}))
    return setting, objective, parts


def test_the_neighbours_of_the_batch_are_negatives_of_all_its_rows():
    setting, objective, parts = _objective(num_negatives=0, num_hard=3, num_neighbours=3)
    batch = tiny.batch(setting, [0, 4, 21])
    metrics = jax.jit(objective.loss)(*parts, batch, Step(jax.random.key(0)))[1][1]
    classes, table, ids = parts[1]["train_rows"][:, 0], np.asarray(parts[1]["neighbours"]), [0, 4, 21]
    rows = set(table[ids].ravel().tolist()) - {-1} | set(ids)
    usable = lambda i, r: r != i and not (classes[i] >= 0 and classes[i] == classes[r])  # noqa: E731
    assert float(metrics["num_negatives"][0]) == sum(usable(i, r) for i in ids for r in rows)


def test_a_pool_of_all_rows_gives_every_example_all_its_usable_rows():
    setting, objective, parts = _objective(num_negatives=1000)
    batch = tiny.batch(setting, [0, 4, 21])
    metrics = jax.jit(objective.loss)(*parts, batch, Step(jax.random.key(0)))[1][1]
    classes = np.asarray(parts[1]["train_rows"])[: tiny.NUM_TRAIN, 0]
    expected = [(classes != 0).sum(), (classes != 1).sum(), tiny.NUM_TRAIN - 1]
    assert float(metrics["num_negatives"][0]) == sum(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "teacher_cache"}, "no student rows"),
        ({"num_hard": 4, "source": "in_batch"}, "needs 'teacher_cache'"),
        ({"num_hard": 17}, "num_neighbours"),
        ({"num_hard": -1}, "num_hard"),
        ({"num_negatives": 0}, "leave nothing"),
        ({"hard_similarity_ceiling": 1.5}, "ceiling"),
    ],
)
def test_a_choice_of_negatives_that_cannot_work_is_refused(changes, message):
    config = _config()
    config.negatives.update(changes)
    with pytest.raises(ValueError, match=message):
        codir.make(config, tiny.setting())


def test_nce_with_one_pool_for_all_is_refused():
    config = codir.default_config("released")
    config.negatives.shared = True
    with pytest.raises(ValueError, match="shared=False"):
        codir.make(config, tiny.setting())


@pytest.mark.parametrize("is_shared", [True, False])
def test_no_array_of_all_train_rows_is_made(is_shared):
    num_train, config = 100_003, _config()
    config.negatives.shared = is_shared
    pool_shape = POOL.shape if is_shared else (len(IDS), *POOL.shape)
    array = jax.ShapeDtypeStruct
    frozen = {"train_rows": array((num_train + 1, 2), jnp.int32)}
    unit = array((len(IDS), 1, DIM), jnp.float32)
    pool = {"ids": array(pool_shape, jnp.int32), "features": array((*pool_shape, 1, DIM), jnp.float32)}

    def losses(features, frozen, batch, pool):
        return contrastive_term(config, features, {}, frozen, batch, pool=pool, num_train=num_train)[0]

    compiled = jax.jit(losses).lower({"student": unit, "teacher": unit}, frozen, BATCH, pool).compile()
    assert largest_made(compiled) < num_train
