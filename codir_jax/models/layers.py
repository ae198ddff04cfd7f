"""The layers of encoders and heads, with the logical axes of their weights, and the activations.

A `config` has `initializer_range`; a norm reads its `layer_norm_eps` and `norm_bias`, a table its `hidden_size`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.gelu import gelu
from codir_jax.models.norms import LayerNorm
from codir_jax.models.products import Dense
from codir_jax.models.weights import Table


def _in_float32(function):
    return lambda x: function(x.astype(jnp.float32)).astype(x.dtype)


ACTIVATIONS = {
    # transformers calls the erf form "gelu"; the tanh form moves MiniLM's hidden states by 9e-3.
    "gelu": gelu,
    "gelu_new": _in_float32(lambda x: jax.nn.gelu(x, approximate=True)),
    "relu": _in_float32(jax.nn.relu),
    "tanh": _in_float32(jnp.tanh),
}


def activate(name: str, x: jax.Array) -> jax.Array:
    """An activation of ACTIVATIONS, computed in float32, in the dtype of x."""
    return ACTIVATIONS[name](x)


def weights_init(config: Any, *axes: str):
    """Initialiser normal(0, initializer_range) of a weight with logical `axes`."""
    return nn.with_logical_partitioning(nn.initializers.normal(config.initializer_range), axes)


def dense(config: Any, features: int, axes: tuple[str, str], name: str | None, dtype, **shapes) -> Dense:
    """A Dense layer, kernel float32 [in, out] with logical `axes`, computing in `dtype`; `shapes` are fields of it."""
    bias_axis = "norm" if axes[1] == "embed" else axes[1]
    return Dense(
        features,
        dtype=dtype,
        kernel_init=weights_init(config, *axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros_init(), (bias_axis,)),
        name=name,
        **shapes,
    )


def layer_norm(config: Any, axis: str, name: str | None) -> LayerNorm:
    """A LayerNorm with the checkpoint's own epsilon, its weights along logical `axis`."""
    return LayerNorm(
        epsilon=config.layer_norm_eps,
        use_bias=config.norm_bias,
        scale_init=nn.with_logical_partitioning(nn.initializers.ones_init(), (axis,)),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros_init(), (axis,)),
        name=name,
    )


def embed(config: Any, num_rows: int, axis: str, name: str | None, dtype, width: int = 0) -> Table:
    """An embedding table, float32 [rows, width], 0 for hidden_size."""
    init = weights_init(config, axis, "embed")
    return Table(num_rows, width or config.hidden_size, dtype=dtype, embedding_init=init, name=name)
