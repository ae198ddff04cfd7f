"""Where the state of a run lies on the mesh."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from codir_jax.training import state as state_lib


def test_moments_lie_as_their_parameters_and_counters_lie_whole():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("model"), PartitionSpec()))
    params = {"student": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}
    of_params = {"student": {"kernel": split, "bias": whole}}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    create = lambda p: state_lib.create(p, {}, tx, 0, "threefry2x32")  # noqa: E731
    found = state_lib.shardings(jax.eval_shape(create, params), of_params, {}, whole)
    state = jax.jit(create, out_shardings=found)(params)
    adam = state.opt_state[1][0]
    assert adam.mu["student"]["kernel"].sharding.is_equivalent_to(split, 2)
    assert adam.nu["student"]["bias"].sharding.is_equivalent_to(whole, 1)
    assert adam.count.sharding.is_equivalent_to(whole, 0)
