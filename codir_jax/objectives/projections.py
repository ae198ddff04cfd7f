"""Linear maps into the space where student and teacher are compared, one for all matched layers or one a layer."""

import jax
import jax.numpy as jnp

from codir_jax.models.pooling import standardized


def layer_vectors(pooled: jax.Array, config) -> jax.Array:
    """Pooled states as they are projected and compared: each layer standardised where the config says so.

    Args:
      pooled: float [..., matches, width].

    Returns:
      float32, same shape.
    """
    return standardized(pooled) if config.standardize_layers else pooled.astype(jnp.float32)


def project(projection, pooled: jax.Array, config) -> jax.Array:
    """Unit features, float32 [batch, groups, projection_dim]; one group for "concat", one a layer for "per_layer".

    Args:
      projection: {"kernel" [groups, in, projection_dim], "bias" [groups, projection_dim]}.
      pooled: float [batch, matches, width].
    """
    pooled = layer_vectors(pooled, config)
    if config.layer_aggregation == "concat":
        pooled = pooled.reshape(pooled.shape[0], 1, -1)
    # Full float32, as for the scores: see in_batch.score_matrix. A product a group, as one batched product of a single
    # group is 2.5 times slower on a CPU.
    products = [
        jnp.matmul(pooled[:, g], kernel, precision=jax.lax.Precision.HIGHEST)
        for g, kernel in enumerate(projection["kernel"])
    ]
    projected = jnp.stack(products, axis=1) + projection["bias"]
    # 1e-12 under the root: a zero vector gets a zero, not a NaN, gradient; invisible in float32 otherwise.
    return projected * jax.lax.rsqrt(jnp.sum(projected**2, -1, keepdims=True) + 1e-12)


def init_projection(rng: jax.Array, config, num_matches: int, width: int):
    """A linear map per group, uniform(-1/sqrt(in), 1/sqrt(in)) as torch.nn.Linear starts in the released code."""
    concat = config.layer_aggregation == "concat"
    groups, size = (1, num_matches * width) if concat else (num_matches, width)
    kernel_rng, bias_rng = jax.random.split(rng)
    bound, dim = size**-0.5, config.projection_dim
    return {
        "kernel": jax.random.uniform(kernel_rng, (groups, size, dim), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias_rng, (groups, dim), minval=-bound, maxval=bound),
    }
