"""What Meta-KD lays beside a model: a feature of (domain, text), and a classifier that is to guess the domain.

    feature_i = (E[k_i] + h_i) W + b,    domain logits = tanh(feature) W_d + b_d

with h the mean over a text's tokens. Its weights are saved beside the teacher's best model, for its students.
"""

import jax
import jax.numpy as jnp

NAME = "domain"


def init(rng: jax.Array, num_domains: int, width: int) -> dict[str, jax.Array]:
    """Random weights, float32: embedding [domains, width], kernel [width, width], classifier [width, domains]."""
    keys = jax.random.split(rng, 3)
    normal = jax.nn.initializers.normal(0.02)
    return {
        "embedding": normal(keys[0], (num_domains, width), jnp.float32),
        "kernel": normal(keys[1], (width, width), jnp.float32),
        "bias": jnp.zeros(width, jnp.float32),
        "classifier_kernel": normal(keys[2], (width, num_domains), jnp.float32),
        "classifier_bias": jnp.zeros(num_domains, jnp.float32),
    }


def feature(params, domains: jax.Array, content: jax.Array) -> jax.Array:
    """float32 [batch, width], before tanh.

    Args:
      domains: int32 [batch]. content: h, float32 [batch, width].
    """
    return (params["embedding"][domains] + content) @ params["kernel"] + params["bias"]


def domain_logits(params, values: jax.Array) -> jax.Array:
    """float32 [batch, domains], of tanh(feature), float32 [batch, width]."""
    return values @ params["classifier_kernel"] + params["classifier_bias"]
