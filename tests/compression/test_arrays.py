"""The four ways to compress an array, against numbers of another implementation (float64) and at their limits."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.compression import low_rank, prune, quantize, tensor_train
from codir_jax.processes.user_error import UserError

GOLDEN = {path.stem: np.load(path) for path in (Path(__file__).parent / "golden").glob("*.npz")}
MATRIX = GOLDEN["compress_12x20"]
W = MATRIX["W"]
WAYS = {
    "affine_tensor": {"is_affine": True},
    "symmetric_tensor": {},
    "symmetric_channel": {"axis": 0},
}


@pytest.mark.parametrize("bits", quantize.BITS)
@pytest.mark.parametrize("way", WAYS)
def test_codes_are_exact_and_the_error_is_theirs(way, bits):
    found = quantize.quantize(W, bits, **WAYS[way])
    np.testing.assert_array_equal(found.values, MATRIX[f"{way}_{bits}bit_codes"])
    rmse = np.sqrt(np.mean((W.astype(np.float64) - found.numbers()) ** 2))
    np.testing.assert_allclose(rmse, MATRIX[f"{way}_{bits}bit_rmse"], rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_step_sees_the_same_numbers_and_a_straight_gradient(way):
    def step(w):
        return (quantize.fake_quantize(w, 4, **WAYS[way]) * jnp.arange(20.0)).sum()

    made = jax.jit(lambda w: quantize.fake_quantize(w, 4, **WAYS[way]))(W)
    np.testing.assert_allclose(made, quantize.quantize(W, 4, **WAYS[way]).numbers(), atol=1e-6)
    np.testing.assert_array_equal(jax.grad(step)(W), np.broadcast_to(np.arange(20.0), W.shape))


def test_an_array_of_zeros_stays_and_a_half_goes_to_the_even_code():
    np.testing.assert_array_equal(quantize.quantize(np.zeros((2, 3), np.float32), 8).numbers(), np.zeros((2, 3)))
    np.testing.assert_array_equal(quantize.quantize(np.float32([[0.5, 1.5, 2.5, 3]]), 3).values, [[0, 2, 2, 3]])


@pytest.mark.parametrize("sparsity", ["0.5", "0.8", "0.9"])
def test_masks_are_exact_outside_and_inside_a_step(sparsity):
    expected = MATRIX[f"magnitude_mask_{sparsity}"]
    np.testing.assert_array_equal(prune.mask(W, float(sparsity)), expected)
    np.testing.assert_array_equal(jax.jit(prune.mask_in_step)(W, float(sparsity)), expected)


def test_of_equal_weights_the_first_are_left_out_and_nothing_of_nothing():
    w = np.float32([[1, -1], [1, 2]])
    np.testing.assert_array_equal(prune.mask(w, 0.5), [[False, False], [True, True]])
    np.testing.assert_array_equal(prune.mask_in_step(w, 0.5), [[False, False], [True, True]])
    assert prune.mask(w, 0.0).all()


def test_weights_that_are_pruned_together_are_compared_with_each_other():
    masks = prune.masks_together({"a": np.float32([[1, 2]]), "b": np.float32([[3, 4]])}, 0.5)
    np.testing.assert_array_equal(masks["a"], [[False, False]])
    assert masks["b"].all()


def test_the_schedule_of_the_sparsity():
    expected = MATRIX["sparsity_schedule_final0.9_begin10_end110_every10"]
    found = [prune.sparsity_at(step / 120, 0.9, 10 / 120, 110 / 120) for step in range(0, 130, 10)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Of no time at all it is a step.
    assert [float(prune.sparsity_at(progress, 0.5, 1.0, 1.0)) for progress in (0.0, 0.99, 1.0)] == [0.0, 0.0, 0.5]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_best_product_of_a_rank(rank):
    a, b = low_rank.factors(W, rank)
    assert (a.shape, b.shape) == ((12, rank), (rank, 20))
    np.testing.assert_allclose(a @ b, MATRIX[f"svd_rank{rank}"], atol=1e-5)  # numbers up to 9 in float32
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(exact, MATRIX[f"svd_rank{rank}"], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(W - exact), MATRIX[f"svd_rank{rank}_error"], rtol=1e-6)


def test_at_full_rank_the_product_is_the_matrix():
    a, b = low_rank.factors(W, 12)
    np.testing.assert_allclose(a @ b, W, atol=1e-5)


@pytest.mark.parametrize("name", ["tt_24x60_sin", "tt_16x36_gauss"])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_trains_of_a_matrix(name, case):
    golden = GOLDEN[name]
    modes = golden["row_modes"].tolist(), golden["column_modes"].tolist()
    cores = tensor_train.svd(golden["W"], *modes, golden[f"case{case}_max_ranks"].tolist())
    assert [core.shape[3] for core in cores[:-1]] == golden[f"case{case}_ranks"].tolist()
    assert sum(core.size for core in cores) == golden[f"case{case}_parameters"]
    scale = np.abs(golden["W"]).max()
    whole = np.asarray(tensor_train.apply(np.eye(len(golden["W"])), cores))
    error = np.linalg.norm(golden["W"] - whole)
    np.testing.assert_allclose(error, golden[f"case{case}_frobenius_error"], rtol=1e-6, atol=2e-5 * scale)
    x = golden["x"].astype(np.float32)
    np.testing.assert_allclose(tensor_train.apply(x, cores), golden[f"case{case}_y"], atol=2e-5)
    rows = tensor_train.rows(cores, golden["lookup_rows"])
    np.testing.assert_allclose(rows, golden[f"case{case}_rows"], atol=2e-5)


def test_a_train_never_builds_its_matrix():
    """No array of the program is as large as the matrix would be: 64 x 125 numbers."""
    cores = tensor_train.init(jax.random.key(0), tensor_train.shapes((4, 4, 4), (5, 5, 5), (2, 2)), 1.0)
    jaxpr = jax.make_jaxpr(tensor_train.apply)(jnp.ones((2, 64)), cores)
    rows = jax.make_jaxpr(tensor_train.rows)(cores, jnp.arange(2))
    sizes = [v.aval.size for program in (jaxpr, rows) for eqn in program.eqns for v in eqn.outvars]
    assert max(sizes) < 64 * 125 / 4


def test_entries_of_a_train_have_the_variance_that_was_asked_for():
    cores = tensor_train.init(jax.random.key(1), tensor_train.shapes((8, 8, 8), (8, 8, 8), (16, 16)), 0.01)
    whole = tensor_train.apply(jnp.eye(512), cores)
    assert whole.var() == pytest.approx(0.01, rel=0.2)


def test_a_train_without_variance_is_zero_and_learns():
    shapes = tensor_train.shapes((4, 4, 4), (5, 5, 5), (2, 2))
    cores = tensor_train.init(jax.random.key(0), shapes, jnp.var(jnp.zeros((64, 125))))
    x = jax.random.normal(jax.random.key(1), (3, 64))
    value, gradient = jax.value_and_grad(lambda cores: tensor_train.apply(x, cores).sum())(cores)
    assert value == 0 and np.abs(gradient[-1]).max() > 0


@pytest.mark.parametrize(("shape", "rank"), [((200, 800), 50), ((24, 60), 8), ((512, 512), 3)])
def test_cores_have_the_shapes_that_are_said_before_they_are_made(shape, rank):
    rows, columns = map(tensor_train.modes, shape)
    cores = tensor_train.svd(np.random.default_rng(0).normal(size=shape), rows, columns, (rank, rank))
    assert [core.shape for core in cores] == tensor_train.shapes(rows, columns, (rank, rank))


def test_modes_are_as_equal_as_can_be():
    assert tensor_train.modes(10000) == (20, 20, 25)
    assert tensor_train.modes(200) == (5, 5, 8)
    with pytest.raises(UserError, match="no product of 3 numbers"):
        tensor_train.modes(10007)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: quantize.quantize(W, 5), "5 bits are not served; known: 8, 6, 4, 3"),
        (lambda: quantize.quantize(np.float32([[np.nan]]), 8), "NaN"),
        (lambda: prune.mask(W, 1.0), "below 1"),
        (lambda: prune.mask(W, -0.1), "below 1"),
        (lambda: low_rank.factors(W, 13), "rank 13"),
        (lambda: low_rank.factors(W, 0), "rank 0"),
        (lambda: tensor_train.svd(W, (3, 4), (5, 5), (2,)), "not those of an array"),
        (lambda: tensor_train.svd(W, (3, 4), (4, 5), (0,)), "ranks"),
    ],
)
def test_what_is_out_of_range_is_told(wrong, message):
    with pytest.raises(UserError, match=message):
        wrong()
