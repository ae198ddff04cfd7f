"""What recomputing layers saves on GPUs, by their own compiler, which chooses the order of the products."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from codir_jax.models import bert
from codir_jax.models.heads import build_model, init_params
from codir_jax.plan import machines, topology
from codir_jax.processes import environment
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules

has_gpu_compiler = importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda13")
SIZES = dataclasses.replace(
    bert.BASE, vocab_size=100, hidden_size=64, num_layers=4, num_heads=2, intermediate_size=256, max_positions=32
)


def _passing(remat: str, on: machines.Devices) -> int:
    """Bytes on a device that the gradients of 4 layers take beside arguments and results, 128 texts a device."""
    mesh = mesh_lib.make_mesh(mesh_lib.default_config(), topology.devices(on))
    model = build_model(SIZES, "classification", 2, remat=remat)
    place = lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))  # noqa: E731
    params = jax.eval_shape(lambda: rules.unbox(init_params(model, jax.random.key(0))))
    params = jax.tree.map(lambda x: place(x, PartitionSpec()), params)
    ids = place(jax.ShapeDtypeStruct((128 * on.count, 32), jnp.int32), PartitionSpec("data"))

    def loss(params, ids):
        output = model.apply(
            {"params": params}, ids, ids, 0 * ids, deterministic=False, rngs={"dropout": jax.random.key(0)}
        )
        return (output.logits**2).sum() + (output.hidden_states[2] ** 2).sum()

    lowered = jax.jit(jax.grad(loss)).lower(params, ids)
    return lowered.compile(compiler_options=topology.compiler_options(on)).memory_analysis().temp_size_in_bytes


@pytest.mark.aot
@pytest.mark.slow
@pytest.mark.skipif(not has_gpu_compiler, reason="pip install 'codir-jax[aot-gpu]'")
def test_recomputing_layers_saves_memory_on_several_gpus():
    """Of 4 layers one is kept whole: without gradients made together this was a saving of a tenth."""
    environment.set_for_compilers()
    on = machines.parse("h200-8")
    assert _passing("block", on) < 0.5 * _passing("none", on)
