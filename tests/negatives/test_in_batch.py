"""In-batch negatives: which pairs count, and that a sharded batch keeps the loss of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from codir_jax.losses import contrastive
from codir_jax.negatives import in_batch, sampling

TEMPERATURE = 0.07
# Two shards of a batch hold different classes and texts, and the last row pads the batch.
LABELS = np.array([0, 1, 0, 1, 2, 0, 0, 1, 2, 0, 1, 0, 1, 2, 2, 0], np.int32)
TEXT_IDS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 10, 11, 12, 13, 0, -1], np.int32)
EXAMPLE_MASK = np.array([1] * 15 + [0], np.float32)
LABEL_MASK = np.array([1] * 6 + [0, 0] + [1] * 7 + [0], np.float32)


def expected_mask(mask_same_label, mask_same_text):
    """Pair by pair, in plain Python."""
    mask = np.zeros((16, 16), bool)
    for i in range(16):
        for j in range(16):
            same_text = TEXT_IDS[i] == TEXT_IDS[j]
            same_label = bool(LABEL_MASK[i] and LABEL_MASK[j] and LABELS[i] == LABELS[j])
            mask[i, j] = (
                i != j
                and EXAMPLE_MASK[i] > 0
                and EXAMPLE_MASK[j] > 0
                and not (mask_same_text and same_text)
                and not (mask_same_label and same_label)
            )
    return mask


def batch_loss(v_s, v_t, labels, text_ids, example_mask, label_mask):
    """Sum over real rows of the symmetric loss, and their number."""
    mask = in_batch.false_negative_mask(
        labels, text_ids, example_mask, label_mask, mask_same_label=True, mask_same_text=True
    )
    scores = in_batch.score_matrix(v_s, v_t)
    positive = jnp.sum(v_s * v_t, axis=-1)
    both = contrastive.info_nce(positive, [(scores, mask)], TEMPERATURE)
    both += contrastive.info_nce(positive, [(scores.T, mask.T)], TEMPERATURE)
    return jnp.sum(0.5 * both * example_mask), jnp.sum(example_mask)


def mean_loss(features, *rest):
    total, count = batch_loss(*(contrastive.unit_rows(f) for f in features), *rest)
    return total / count


@pytest.mark.parametrize("mask_same_label", [True, False])
@pytest.mark.parametrize("mask_same_text", [True, False])
def test_false_negative_mask_equals_the_rule_pair_by_pair(mask_same_label, mask_same_text):
    got = in_batch.false_negative_mask(
        LABELS,
        TEXT_IDS,
        EXAMPLE_MASK,
        LABEL_MASK,
        mask_same_label=mask_same_label,
        mask_same_text=mask_same_text,
    )
    np.testing.assert_array_equal(got, expected_mask(mask_same_label, mask_same_text))


def test_a_batch_of_one_class_has_no_usable_negatives_and_a_zero_loss():
    ones = jnp.ones(4)
    features = (jnp.asarray(np.random.RandomState(0).normal(size=(4, 3)), jnp.float32),) * 2
    arguments = (jnp.zeros(4, jnp.int32), jnp.arange(4), ones, ones)
    value, gradient = jax.jit(jax.value_and_grad(mean_loss))(features, *arguments)
    assert value == 0.0 and not any(np.any(g) for g in gradient)


def test_usable_negatives_of_shared_and_of_own_keys():
    labels, texts = jnp.asarray([0, -1]), jnp.asarray([5, 6])
    key_labels, key_texts = jnp.asarray([0, 1, -1, 1, 1]), jnp.asarray([7, 5, 8, 6, 9])
    is_valid = jnp.asarray([True, True, True, True, False])
    expected = [[False, False, True, True, False], [True, True, True, False, False]]
    shared = in_batch.usable_negatives(
        labels, texts, key_labels, key_texts, is_valid, mask_same_label=True, mask_same_text=True
    )
    np.testing.assert_array_equal(shared, expected)
    own = in_batch.usable_negatives(
        labels,
        texts,
        jnp.tile(key_labels, (2, 1)),
        jnp.tile(key_texts, (2, 1)),
        jnp.tile(is_valid, (2, 1)),
        mask_same_label=True,
        mask_same_text=True,
    )
    np.testing.assert_array_equal(own, expected)


def test_score_matrix_is_float32_and_has_own_pairs_on_the_diagonal():
    v = np.random.RandomState(0).normal(size=(3, 5))
    w = np.random.RandomState(1).normal(size=(4, 5))
    got = in_batch.score_matrix(jnp.asarray(v, jnp.bfloat16), jnp.asarray(w, jnp.bfloat16))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(in_batch.score_matrix(v, w), v @ w.T, rtol=1e-5, atol=1e-6)


def test_eight_devices_give_the_global_loss_and_gradient_and_per_device_negatives_would_not():
    assert jax.device_count() == 8
    random = np.random.RandomState(0)
    teacher = random.normal(size=(16, 12)).astype(np.float32)
    features = (teacher + 0.5 * random.normal(size=(16, 12)).astype(np.float32), teacher)
    labels = (LABELS, TEXT_IDS, EXAMPLE_MASK, LABEL_MASK)
    one_loss, one_gradient = jax.jit(jax.value_and_grad(mean_loss))(features, *labels)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put((features, *labels), NamedSharding(mesh, PartitionSpec("data")))
    eight_loss, eight_gradient = jax.jit(jax.value_and_grad(mean_loss))(*sharded)
    assert sharded[0][0].sharding.num_devices == 8
    np.testing.assert_allclose(eight_loss, one_loss, rtol=1e-6)
    for got, expected in zip(eight_gradient, one_gradient, strict=True):
        assert got.sharding.num_devices == 8
        np.testing.assert_allclose(got, expected, atol=1e-6 * np.abs(expected).max() + 1e-7)

    def per_device_loss(features, *rest):
        def local(features, *rest):
            total, count = batch_loss(*(contrastive.unit_rows(f) for f in features), *rest)
            return jax.lax.psum(total, "data") / jax.lax.psum(count, "data")

        data = PartitionSpec("data")
        return jax.shard_map(local, mesh=mesh, in_specs=data, out_specs=PartitionSpec())(features, *rest)

    local_loss, local_gradient = jax.jit(jax.value_and_grad(per_device_loss))(*sharded)
    assert local_loss < 0.5 * one_loss
    error = np.linalg.norm(local_gradient[0] - one_gradient[0]) / np.linalg.norm(one_gradient[0])
    assert error > 0.3


def test_sets_of_classes_that_share_one_are_no_negatives_of_each_other():
    """Pair by pair, of 70 classes, which take three words; an empty set shares nothing, an unknown one either."""
    rng = np.random.default_rng(0)
    classes = (rng.random((16, 70)) < 0.02).astype(np.float32)
    classes[0], classes[5], classes[6] = 0, classes[4], 0
    classes[7, 30] = classes[8, 31] = classes[9, 30] = classes[10, 69] = classes[11, 69] = 1
    numbers, sets = sampling.label_sets(classes)
    assert sets.shape == (len(np.unique(classes, axis=0)), 3) and numbers[4] == numbers[5] and (sets >= 0).all()
    expected = np.array([[i != j and not (classes[i] * classes[j]).any() for j in range(16)] for i in range(16)])
    expected[15], expected[:, 15] = np.arange(16) != 15, np.arange(16) != 15  # its label is not known
    mask = in_batch.false_negative_mask(
        numbers,
        np.arange(16),
        np.ones(16),
        np.arange(16) < 15,
        mask_same_label=True,
        mask_same_text=True,
        label_sets=jnp.asarray(sets),
    )
    np.testing.assert_array_equal(mask, expected)
    assert not mask[7, 9] and mask[7, 8] and mask[0, 6] and not mask[10, 11]
