"""Weights in parts over fsdp: gradients are those of whole weights, and end, and are sent, in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from codir_jax.sharding import collectives, fsdp, rules
from codir_jax.sharding import mesh as meshes

ROWS, WIDTH = 12, 8


def _mesh(shape):
    return meshes.make_mesh(dict(zip(rules.MESH_AXES, shape, strict=True)))


def _gradient(shape, axis="vocab"):
    """(gradient of a table by a look-up, its step compiled) on a mesh."""
    rng = np.random.default_rng(0)
    mesh = _mesh(shape)
    ids = rng.integers(0, ROWS, (16, 3)).astype(np.int32)
    table, weight = (rng.normal(size=s).astype(np.float32) for s in ((ROWS, WIDTH), (16, 3, WIDTH)))
    place = NamedSharding(mesh, rules.partition_spec((axis, "embed"), table.shape, mesh))
    batch = rules.batch_sharding(mesh)

    def loss(table, ids, weight):
        whole = fsdp.gathered(table, place)
        return (fsdp.look_up(whole, ids, axis) * weight).sum()

    with rules.on_mesh(mesh):
        lowered = jax.jit(jax.grad(loss), in_shardings=(place, batch, batch), out_shardings=place).lower(
            table, ids, weight
        )
    expected = np.zeros_like(table)
    np.add.at(expected, ids, weight)
    compiled = lowered.compile()
    placed = [jax.device_put(x, s) for x, s in ((table, place), (ids, batch), (weight, batch))]
    return compiled(*placed), expected, collectives.parse(compiled.as_text())


@pytest.mark.parametrize("axis", ["vocab", "position"])
@pytest.mark.parametrize("shape", [(2, 4, 1), (1, 8, 1), (2, 2, 2), (1, 4, 2)])
def test_the_gradient_of_a_table_is_the_sum_over_all_rows_and_scattered(shape, axis):
    found, expected, sent = _gradient(shape, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    parts = shape[2] if axis == "vocab" else 1
    assert [one.num_bytes for one in sent if one.kind == "reduce-scatter"] == [4 * ROWS * WIDTH // parts]
    part = 4 * ROWS * WIDTH // parts // shape[1]
    assert [one.num_bytes for one in sent if one.kind == "all-reduce"] == [part] * (shape[0] > 1)


def test_without_fsdp_a_look_up_is_the_plain_one():
    found, expected, sent = _gradient((8, 1, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not any(one.kind == "reduce-scatter" for one in sent)


def test_a_weight_is_whole_where_it_is_used_and_its_gradient_split():
    mesh = _mesh((2, 4, 1))
    place, batch = NamedSharding(mesh, P("fsdp")), rules.batch_sharding(mesh)
    weight = jax.device_put(np.arange(8 * 5, dtype=np.float32).reshape(8, 5), place)
    x = jax.device_put(np.ones((16, 8), np.float32), batch)
    seen = []

    @jax.jit
    def gradient(weight, x):
        def loss(weight):
            whole = fsdp.gathered(weight, place)
            jax.debug.inspect_array_sharding(whole, callback=seen.append)
            return (jnp.tanh(x @ whole)).sum()

        return jax.grad(loss)(weight)

    assert gradient(weight, x).sharding.is_equivalent_to(place, 2)
    assert seen[0].is_fully_replicated
