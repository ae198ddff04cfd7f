"""Sampled negatives: never the own class, distinct, uniform, unlabelled anchors, small pools, regression bins."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from codir_jax.negatives import sampling
from tests.negatives.structure import largest_made


def class_index(labels):
    starts = sampling.class_starts(labels)
    return {"sorted_rows": sampling.rows_by_class(labels, starts), "starts": starts}


LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 2, 0, 0], np.int32)  # sizes 5, 3, 4
INDEX = class_index(LABELS)


@functools.partial(jax.jit, static_argnames=("num", "replace"))
def draw(rng, index, anchor_labels, num, replace, own_ids=None):
    return sampling.sample_other_class(rng, index, anchor_labels, num, replace=replace, own_ids=own_ids)


draw_any = jax.jit(sampling.sample_any, static_argnums=(1, 3, 4))


def is_distinct(rows):
    return all(len(set(row)) == len(row) for row in np.asarray(rows).tolist())


def test_class_index_groups_the_rows_with_unlabelled_ones_last():
    index = class_index(np.array([1, -1, 0, 1, -1, 3]))
    np.testing.assert_array_equal(index["sorted_rows"], [2, 0, 3, 5, 1, 4])
    np.testing.assert_array_equal(index["starts"], [0, 1, 3, 3, 4, 6])
    assert index["sorted_rows"].dtype == index["starts"].dtype == np.int32
    assert sampling.smallest_pool(index["starts"]) == 2 and sampling.smallest_pool(INDEX["starts"]) == 7


def test_class_index_refuses_one_class_and_float_labels():
    with pytest.raises(ValueError, match="all 3 labelled rows are of class 1"):
        class_index(np.array([1, 1, -1, 1]))
    with pytest.raises(ValueError, match="bin_labels"):
        class_index(np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="-2"):
        class_index(np.array([0, 1, -2]))


@pytest.mark.parametrize("replace", [True, False])
def test_negatives_are_of_other_classes_and_in_range(replace):
    labels = np.random.RandomState(0).randint(-1, 5, 3000).astype(np.int32)
    anchors = np.arange(256) % 5
    rows = np.asarray(draw(jax.random.key(0), class_index(labels), anchors, 50, replace))
    assert rows.shape == (256, 50) and rows.dtype == np.int32
    assert (labels[rows] != anchors[:, None]).all() and (labels[rows] >= 0).all()
    assert replace or is_distinct(rows)


def test_a_pool_of_exactly_num_rows_is_drawn_whole():
    rows = np.asarray(draw(jax.random.key(0), INDEX, np.array([0, 0, 0]), 7, False))
    assert all(sorted(row) == np.flatnonzero(LABELS != 0).tolist() for row in rows.tolist())


@pytest.mark.parametrize("pool_labels", [[0, 0, 0, 0, 0, 0, 1], [1, 0, 0, 2, 0, 0, 0, 1]])
@pytest.mark.parametrize("num", [1, 2, 3, 4, 5])
def test_every_subset_is_equally_likely_without_replacement(pool_labels, num):
    """Chi-square over all subsets: catches a biased set that has uniform single draws."""
    labels = np.array(pool_labels, np.int32)
    pool = np.flatnonzero(labels != 1)
    subsets = {s: i for i, s in enumerate(itertools.combinations(pool.tolist(), num))}
    rows = np.sort(draw(jax.random.key(num), class_index(labels), np.ones(20_000, np.int32), num, False), 1)
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    observed = np.zeros(len(subsets))
    observed[[subsets[tuple(row)] for row in unique.tolist()]] = counts
    assert len(subsets) == 1 or stats.chisquare(observed).pvalue > 1e-3


@pytest.mark.parametrize("replace", [True, False])
def test_rows_of_a_large_pool_are_uniform(replace):
    labels = (np.arange(6000) % 3).astype(np.int32)
    rows = np.asarray(draw(jax.random.key(7), class_index(labels), np.zeros(512, np.int32), 100, replace))
    assert replace or is_distinct(rows)
    counts = np.bincount(rows.ravel(), minlength=6000)
    assert not counts[labels == 0].any()
    # 64 groups of rows, about 800 draws each; without replacement the spread is only 100 / 4000 narrower.
    groups = np.array([g.sum() for g in np.array_split(counts[labels != 0], 64)])
    sizes = np.array([len(g) for g in np.array_split(counts[labels != 0], 64)])
    assert stats.chisquare(groups, groups.sum() * sizes / sizes.sum()).pvalue > 1e-3


def test_parallel_draw_equals_floyds_algorithm_step_by_step():
    pool, num = np.array([100, 130, 250, 1000]), 100
    got = np.asarray(jax.jit(sampling._draw, static_argnums=(2, 3))(jax.random.key(3), pool, num, False))
    bound = (pool[:, None] - num + np.arange(num) + 1).astype(np.int32)
    draws = np.asarray(sampling._below(jax.random.key(3), bound))
    for row, size, result in zip(draws, pool, got, strict=True):
        taken = []
        for j, value in enumerate(row.tolist()):
            taken.append(size - num + j if value in taken else value)
        assert result.tolist() == taken


def test_a_chain_of_fallbacks_of_full_length_is_followed_to_its_end():
    # Draw 1 repeats draw 0, and each later draw is what the one before it fell back on: all but the first fall back.
    draws = jnp.asarray([[0, 0, *range(51, 149)]])
    np.testing.assert_array_equal(sampling._floyd(draws, jnp.asarray([[50]])), [[0, *range(51, 150)]])


def test_a_class_with_few_others_falls_back_to_replacement_alone():
    labels = np.array([0] * 50 + [1] * 3, np.int32)
    rows = np.asarray(draw(jax.random.key(0), class_index(labels), np.array([0, 1]), 20, False))
    assert set(rows[0].tolist()) <= {50, 51, 52}
    assert (rows[1] < 50).all() and is_distinct(rows[1:])
    many = np.asarray(draw(jax.random.key(1), class_index(labels), np.zeros(500, np.int32), 20, False))
    assert stats.chisquare(np.bincount(many.ravel(), minlength=53)[50:]).pvalue > 1e-3


@pytest.mark.parametrize("replace", [True, False])
def test_an_unlabelled_anchor_draws_from_all_rows_but_its_own(replace):
    labels = np.array([0, 1, -1, 1, 0, -1, -1, 0], np.int32)
    index = class_index(labels)
    anchors = np.full(2000, -1, np.int32)
    rows = np.asarray(draw(jax.random.key(0), index, anchors, 4, replace))
    assert stats.chisquare(np.bincount(rows.ravel(), minlength=8)).pvalue > 1e-3
    own = np.arange(2000) % 8
    rows = np.asarray(draw(jax.random.key(1), index, anchors, 4, replace, own))
    assert (rows != own[:, None]).all() and (rows >= 0).all() and (rows < 8).all()
    assert replace or is_distinct(rows)
    assert stats.chisquare(np.bincount(rows.ravel(), minlength=8)).pvalue > 1e-3


def test_a_train_set_without_any_label_works():
    index = class_index(np.full(20, -1))
    assert sampling.smallest_pool(index["starts"]) == 20
    assert is_distinct(draw(jax.random.key(0), index, np.full(4, -1), 10, False))


@pytest.mark.parametrize("replace", [True, False])
def test_sample_any_is_uniform_over_the_other_rows(replace):
    own = jnp.arange(4000) % 9
    rows = np.asarray(draw_any(jax.random.key(0), 9, own, 5, replace))
    assert (rows != np.asarray(own)[:, None]).all() and (replace or is_distinct(rows))
    for row in range(9):
        counts = np.bincount(rows[np.asarray(own) == row].ravel(), minlength=9)
        assert stats.chisquare(np.delete(counts, row)).pvalue > 1e-3


def test_sample_any_of_padded_rows_stays_in_range_and_one_row_is_refused():
    rows = np.asarray(draw_any(jax.random.key(0), 9, jnp.full(50, 9), 8, False))
    assert (rows >= 0).all() and (rows < 9).all()
    with pytest.raises(ValueError, match="at least 2"):
        sampling.sample_any(jax.random.key(0), 1, jnp.zeros(2, jnp.int32), 1, True)


def test_the_same_key_draws_the_same_rows_and_vmap_agrees():
    keys = jax.random.split(jax.random.key(0), 3)
    anchors = np.array([0, 1, 2, -1], np.int32)
    mapped = jax.vmap(lambda k: draw(k, INDEX, anchors, 4, False))(keys)
    for key, rows in zip(keys, mapped, strict=True):
        np.testing.assert_array_equal(draw(key, INDEX, anchors, 4, False), rows)
    assert np.any(np.asarray(mapped[0]) != np.asarray(mapped[1]))


@pytest.mark.parametrize("num", [1, 3, 4])
def test_every_pool_is_equally_likely_and_has_no_row_twice(num):
    keys = jax.random.split(jax.random.key(num), 20_000)
    rows = np.sort(jax.jit(jax.vmap(lambda key: sampling.sample_pool(key, 6, num)))(keys), axis=1)
    assert is_distinct(rows)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(counts) == len(list(itertools.combinations(range(6), num)))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_large_pool_is_distinct_and_one_of_more_than_all_rows_is_all_rows():
    rows = np.asarray(jax.jit(lambda key: sampling.sample_pool(key, 8_000, 6_000))(jax.random.key(0)))
    assert len(set(rows.tolist())) == 6_000
    assert abs(rows.mean() - 4_000) < 6 * 8_000 / np.sqrt(12 * 6_000)
    assert sorted(sampling.sample_pool(jax.random.key(0), 7, 100).tolist()) == list(range(7))


@pytest.mark.parametrize("replace", [True, False])
def test_of_a_thousand_million_rows_each_third_is_drawn_as_often(replace):
    """A remainder of 32 random bits takes 0.379, 0.310 and 0.310 of its draws from the three thirds."""
    own = jnp.full(40, 10**9)
    rows = np.asarray(draw_any(jax.random.key(0), 10**9, own, 1000, replace))
    pools = jax.jit(jax.vmap(lambda key: sampling.sample_pool(key, 10**9, 1000)))(
        jax.random.split(jax.random.key(1), 40)
    )
    for drawn in (rows, np.asarray(pools)):
        assert drawn.min() >= 0 and drawn.max() < 10**9 and drawn.max() > 0.999 * 10**9
        assert stats.chisquare(np.bincount(drawn.ravel() // 333_333_334, minlength=3)).pvalue > 1e-3


def test_a_draw_is_the_share_of_its_bound_that_python_computes():
    words = [0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 0x9E3779B9, 0x85EBCA6B]
    bounds = [0, 1, 2, 3, 2**16 - 1, 2**16, 2**16 + 1, 10**9, 2**31 - 1]
    grid = np.array(list(itertools.product(words, words, bounds)), np.uint32)
    expected = [bound * (2**32 * high + low) >> 64 for high, low, bound in grid.tolist()]
    np.testing.assert_array_equal(jax.jit(sampling._share)(*grid.T), expected)


def test_a_pool_is_drawn_without_an_array_of_all_rows():
    num_rows, key = 1_000_003, jax.eval_shape(lambda: jax.random.key(0))
    compiled = jax.jit(lambda key: sampling.sample_pool(key, num_rows, 512)).lower(key).compile()
    assert largest_made(compiled) < num_rows


def test_neighbours_are_drawn_uniformly_and_missing_ones_stay_missing():
    table = jnp.asarray([[5, 6, 7, 8], [5, 6, -1, -1], [-1, -1, -1, -1]])
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda key: sampling.sample_neighbours(key, table, 3))(keys))
    assert is_distinct(drawn[:, 0])
    assert stats.chisquare(np.bincount(drawn[:, 0].ravel())[5:]).pvalue > 1e-3
    assert (np.sort(drawn[:, 1], axis=1) == [-1, 5, 6]).all() and (drawn[:, 2] == -1).all()


def test_bin_labels_are_ordered_balanced_and_keep_equal_values_together():
    values = np.random.RandomState(0).uniform(0, 5, 1000)
    bins = sampling.bin_labels(values, 5)
    assert bins.dtype == np.int32 and (np.bincount(bins) == 200).all()
    order = np.argsort(values)
    assert (np.diff(bins[order]) >= 0).all()
    np.testing.assert_array_equal(sampling.bin_labels(np.array([1.0, 2.0, np.nan, 3.0, 4.0]), 2), [0, 0, -1, 1, 1])


@pytest.mark.parametrize("num_bins", [2, 3, 5])
@pytest.mark.parametrize("num_low", [1, 10, 50, 90, 99])
def test_two_values_are_never_put_in_one_bin(num_low, num_bins):
    bins = sampling.bin_labels(np.array([0.0] * num_low + [5.0] * (100 - num_low)), num_bins)
    assert bins.tolist() == [0] * num_low + [1] * (100 - num_low)


def test_bin_labels_with_ties_have_no_gaps_and_constant_targets_have_one_bin():
    values = np.array([0.0] * 80 + [1.0] * 10 + [5.0] * 10)
    bins = sampling.bin_labels(values, 10)
    assert set(bins.tolist()) == set(range(bins.max() + 1)) and bins.max() >= 1
    assert all(len(set(bins[values == v].tolist())) == 1 for v in (0.0, 1.0, 5.0))
    assert set(sampling.bin_labels(np.full(9, 2.5), 4).tolist()) == {0}
    assert set(sampling.bin_labels(np.full(9, np.nan), 4).tolist()) == {-1}
    with pytest.raises(ValueError, match="at least 2"):
        sampling.bin_labels(values, 1)


def test_regression_negatives_come_from_other_bins():
    values = np.random.RandomState(0).uniform(0, 5, 200)
    bins = sampling.bin_labels(values, 5)
    rows = np.asarray(draw(jax.random.key(0), class_index(bins), bins[:64], 30, False))
    assert (bins[rows] != bins[:64, None]).all() and is_distinct(rows)
