"""Where the state of a run lies on the mesh."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from codir_jax.training import optimizer
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


def test_where_a_part_is_frozen_the_moments_of_the_rest_lie_as_their_parameters():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("model"), PartitionSpec()))
    layer = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    params = {"encoder": {**layer, "inner": layer}, "head": layer}
    of_params = jax.tree.map(lambda p: split if p.ndim == 2 else whole, params)
    config = optimizer.default_config()
    config.rules = ("encoder/(kernel|bias): frozen", "encoder/inner/.*: rate=2", "head/.*: rate=1")
    tx = optimizer.make_optimizer(config, lambda step: 1e-3)
    create = lambda p: state_lib.create(p, {}, tx, 0, "threefry2x32")  # noqa: E731
    found = state_lib.shardings(jax.eval_shape(create, params), of_params, {}, whole)
    state = jax.jit(create, out_shardings=found)(params)
    adam = state.opt_state[1]
    assert len(jax.tree.leaves(state.opt_state)) == 1 + 2 * 4
    for part in (adam.mu["encoder"]["inner"], adam.nu["head"]):
        assert part["kernel"].sharding.is_equivalent_to(split, 2)
        assert part["bias"].sharding.is_equivalent_to(whole, 1)
    assert jax.tree.leaves(adam.mu["encoder"]["kernel"]) == []
