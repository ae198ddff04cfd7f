"""The linear map that joins states of two widths: x W + b, one for all layers and tokens."""

from typing import Any

import jax
import jax.numpy as jnp


def init(rng: jax.Array, width: int, teacher_width: int) -> dict[str, jax.Array]:
    """{"kernel" float32 [width, teacher_width], "bias" [teacher_width]}.

    It starts as the identity where the widths are equal, so that an equal student has no distance.
    """
    if width == teacher_width:
        kernel = jnp.eye(width, dtype=jnp.float32)
    else:
        kernel = jax.nn.initializers.lecun_normal()(rng, (width, teacher_width), jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros(teacher_width, jnp.float32)}


def apply(params: dict[str, Any] | None, states: jax.Array) -> jax.Array:
    """Float32 [..., teacher_width] of states [..., width]; without a map the states themselves."""
    states = states.astype(jnp.float32)
    return states if params is None else states @ params["kernel"] + params["bias"]
