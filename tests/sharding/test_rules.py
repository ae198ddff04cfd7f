"""The table from logical to mesh axes, on 8 fake devices."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from codir_jax.models import bert
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.sharding import mesh as meshes
from codir_jax.sharding import rules

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
    with pytest.raises(ValueError, match="no such mesh axis; known: data, model"):
        rules.with_overrides({"embed": "modle"})
    with pytest.raises(ValueError, match="no row in the sharding rules"):
        rules.partition_spec(("width",), (16,), mesh)


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
