"""Adam and AdamW with warm-up, linear or cosine decay, and clipping, from the config."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from codir_jax.processes.user_error import UserError

NAMES = ("adamw", "adam")
SCHEDULES = ("linear", "cosine", "constant")


def default_config() -> ConfigDict:
    """Fields of the optimizer."""
    return ConfigDict(
        {
            "name": "adamw",  # "adamw", or "adam": fairseq's Adam as in the released code (see scale_by_fairseq_adam)
            "learning_rate": 5e-5,  # peak
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.01,  # decoupled: p <- p - rate * weight_decay * p
            "decay_bias_and_norm": False,  # whether vectors (biases, layer norms) decay too; fairseq does
            "schedule": "linear",  # after the warm-up to end_share of the peak: "linear", "cosine"; or "constant"
            "end_share": 0.0,
            "warmup_steps": -1,  # exactly one of the three
            "warmup_epochs": -1.0,
            "warmup_percent": 6.0,
            "clip_norm": 1.0,  # of the global gradient; 0 = no clipping
        }
    )


def check(config: ConfigDict) -> None:
    """Refuses impossible values before anything is computed."""
    if config.name not in NAMES:
        raise UserError(f"optimizer.name={config.name!r}; known: {', '.join(NAMES)}")
    if config.schedule not in SCHEDULES:
        raise UserError(f"optimizer.schedule={config.schedule!r}; known: {', '.join(SCHEDULES)}")
    if not config.learning_rate > 0:
        raise UserError(f"optimizer.learning_rate must be > 0, got {config.learning_rate}")
    for name in ("weight_decay", "clip_norm", "end_share"):
        if config[name] < 0:
            raise UserError(f"optimizer.{name} must be >= 0, got {config[name]}")


def make_schedule(config: ConfigDict, num_steps: int, warmup_steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 over `warmup_steps`, then the decay until `num_steps`."""
    peak, end = config.learning_rate, config.learning_rate * config.end_share
    decay_steps = max(num_steps - warmup_steps, 1)
    decay = {
        "linear": optax.linear_schedule(peak, end, decay_steps),
        "cosine": optax.cosine_decay_schedule(peak, decay_steps, config.end_share),
        "constant": optax.constant_schedule(peak),
    }[config.schedule]
    warmup = optax.linear_schedule(0.0, peak, max(warmup_steps, 1))
    return optax.join_schedules([warmup, decay], [warmup_steps]) if warmup_steps else decay


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optax chain: clip, Adam, decoupled decay of the matrices (or of everything), rate."""
    check(config)
    scale = {"adamw": optax.scale_by_adam, "adam": scale_by_fairseq_adam}[config.name]
    mask = None if config.decay_bias_and_norm else lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        scale(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=mask) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(schedule),
    )


class FairseqAdamState(NamedTuple):
    """count: int32 scalar; mu, nu: first and second moments, float32 trees like the parameters."""

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def scale_by_fairseq_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with eps beside the uncorrected second moment, as fairseq (and the released CoDIR) computes it.

        update = sqrt(1 - b2^t) / (1 - b1^t) * mu / (sqrt(nu) + eps)

    optax and torch add eps after the correction, which at b2 = 0.98 and t = 1 is a seventh of the effect.
    """

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return FairseqAdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        size = jnp.sqrt(1 - b2**count) / (1 - b1**count)
        updates = jax.tree.map(lambda m, v: size * m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, FairseqAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
