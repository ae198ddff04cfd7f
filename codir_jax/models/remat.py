"""What the forward pass of a layer keeps for its backward pass."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from codir_jax.models.products import gradients_together

# "none" recomputes nothing, "block" keeps the input of each layer only, "dots" also the results of its products with
# weights.
REMAT = {
    "none": None,
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def run(layer: nn.Module, remat: str, x: jax.Array, *more: Any) -> jax.Array:
    """layer(x, *more), whose backward pass computes the layer again as far as `remat`, of REMAT, says."""
    if remat == "none" or layer.is_initializing():
        return layer(x, *more)
    params, alone = layer.variables["params"], layer.clone(parent=None)

    def again(params, x, *more):
        return alone.apply({"params": params}, x, *more)

    return jax.checkpoint(again, policy=REMAT[remat])(*gradients_together(params, x), *more)
