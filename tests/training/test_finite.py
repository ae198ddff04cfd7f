"""A state with NaN or infinity is not saved, whoever looks at it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh
from codir_jax.training import metrics


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.0])
@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_number_that_is_not_finite_is_found(value, is_split, dtype):
    leaf = jnp.zeros((8, 3), dtype).at[5, 1].set(value)
    if is_split:
        leaf = jax.device_put(leaf, rules.batch_sharding(make_mesh({"data": 8, "fsdp": 1, "model": 1})))
    state = SimpleNamespace(params={"a": jnp.ones(3)}, opt_state=(jnp.int32(3), leaf))
    assert bool(metrics._is_finite_on_devices([leaf])) == np.isfinite(value)
    if np.isfinite(value):
        metrics.require_finite(state, 7)
        metrics.require_finite(state, 7)  # the look takes nothing away
    else:
        with pytest.raises(metrics.NonFiniteError, match="step 7"):
            metrics.require_finite(state, 7)
