"""The table from logical to mesh axes, on 8 fake devices."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from codir_jax.models import bert
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.sharding import fsdp, rules
from codir_jax.sharding import mesh as meshes

CONFIG = dataclasses.replace(
    bert.BASE, vocab_size=30, hidden_size=16, num_layers=1, num_heads=4, intermediate_size=24, max_positions=8
)


@pytest.fixture(scope="module")
def mesh():
    config = meshes.default_config()
    config.model = 2
    return meshes.make_mesh(config)


def test_weights_go_where_the_table_says(mesh):
    specs = rules.partition_specs(abstract_params(build_model(CONFIG)), mesh)
    layer = specs["encoder"]["layer_0"]
    assert layer["attention"]["query"]["kernel"] == P(None, "model")
    assert layer["attention"]["query"]["bias"] == P("model")
    assert layer["attention"]["output"]["kernel"] == P("model")
    assert layer["mlp_in"]["kernel"] == P(None, "model")
    assert layer["mlp_out"]["kernel"] == P("model")
    assert layer["mlp_norm"]["scale"] == P()
    assert specs["encoder"]["embeddings"]["word"]["embedding"] == P("model")
    assert specs["classifier"]["kernel"] == P()


def test_a_dimension_that_does_not_divide_stays_whole(mesh):
    odd = dataclasses.replace(CONFIG, vocab_size=31)
    specs = rules.partition_specs(abstract_params(build_model(odd)), mesh)
    assert specs["encoder"]["embeddings"]["word"]["embedding"] == P()


def test_a_mesh_axis_is_used_once_per_array(mesh):
    table = rules.with_overrides({"embed": "model"})
    assert rules.partition_spec(("embed", "mlp"), (16, 24), mesh, table) == P("model")


def test_overrides_replace_rows_and_refuse_unknown_names(mesh):
    table = rules.with_overrides({"embed": "data", "mlp": ""})
    assert rules.partition_spec(("embed", "mlp"), (16, 24), mesh, table) == P("data")
    with pytest.raises(ValueError, match=r"unknown logical axis 'emebd'.*known: batch"):
        rules.with_overrides({"emebd": "data"})
    with pytest.raises(ValueError, match="no such mesh axis; known: data, fsdp, model"):
        rules.with_overrides({"embed": "modle"})
    with pytest.raises(ValueError, match="no row in the sharding rules"):
        rules.partition_spec(("width",), (16,), mesh)


def test_weights_are_split_over_fsdp_and_model_and_computed_with_whole_over_fsdp():
    mesh = meshes.make_mesh({"data": 2, "fsdp": 2, "model": 2})
    boxed = abstract_params(build_model(CONFIG))
    specs = rules.partition_specs(boxed, mesh)
    layer = specs["encoder"]["layer_0"]
    assert layer["attention"]["query"]["kernel"] == P("fsdp", "model")
    assert layer["attention"]["output"]["kernel"] == P("model", "fsdp")
    assert layer["mlp_norm"]["scale"] == layer["mlp_out"]["bias"] == P()
    assert specs["encoder"]["embeddings"]["word"]["embedding"] == P("model", "fsdp")
    assert rules.batch_sharding(mesh).spec == P(("data", "fsdp"))
    places = rules.shardings(boxed, mesh)
    params = jax.tree.map(lambda leaf, place: jax.device_put(np.ones(leaf.shape), place), rules.unbox(boxed), places)
    whole = jax.jit(lambda tree: fsdp.gathered(tree, places))(params)
    assert whole["encoder"]["layer_0"]["attention"]["output"]["kernel"].sharding.spec == P("model")


def test_bank_rows_are_split_over_as_many_axes_as_divide_them():
    mesh = meshes.make_mesh({"data": 2, "fsdp": 2, "model": 2})
    spec = lambda rows: rules.partition_spec(("bank_rows", None), (rows, 4), mesh)  # noqa: E731
    assert spec(1024) == P(("data", "fsdp", "model"))
    assert spec(12) == P(("data", "fsdp"))
    assert spec(7) == P()


def test_constraints_hold_on_a_mesh_only():
    mesh = meshes.make_mesh({"data": 8, "fsdp": 1, "model": 1})
    x = np.ones((8, 3), np.float32)
    assert rules.constrain(x, "batch") is x
    with rules.on_mesh(mesh):
        split = jax.jit(lambda y: rules.constrain(y, "batch"))(x)
        whole = jax.jit(rules.constrain)(split)
        gradient = jax.jit(jax.grad(lambda y: (rules.gather_batch(y) ** 2).sum()))(split)
    assert split.sharding.spec == gradient.sharding.spec == P("data")
    assert whole.sharding.is_fully_replicated
    np.testing.assert_array_equal(gradient, 2 * x)


def test_an_array_without_axes_is_replicated(mesh):
    assert rules.partition_specs({"scale": np.ones(4)}, mesh) == {"scale": P()}
    assert rules.shardings({"scale": np.ones(4)}, mesh)["scale"] == rules.replicated(mesh)


def test_a_model_split_both_ways_computes_what_one_device_does(mesh):
    model = build_model(CONFIG)
    boxed = abstract_params(model)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), rules.unbox(boxed))
    ids = rng.integers(0, 30, (8, 6)).astype(np.int32)
    inputs = (ids, np.ones_like(ids), np.zeros_like(ids))

    def loss(params, *inputs):
        return (model.apply({"params": params}, *inputs).logits ** 2).mean()

    grad = jax.value_and_grad(loss)
    alone = jax.jit(grad)(params, *inputs)
    where = rules.shardings(boxed, mesh)
    batch = rules.batch_sharding(mesh)
    split = jax.jit(grad, in_shardings=(where, batch, batch, batch), out_shardings=(None, where))(params, *inputs)
    kernel = split[1]["encoder"]["layer_0"]["mlp_in"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (16, 12)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(split), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
