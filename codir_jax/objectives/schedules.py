"""Multipliers of the loss weights over a run, written as text: "constant" or points "0%:0 10%:1 100%:1"."""

import jax
import jax.numpy as jnp

from codir_jax.processes.user_error import UserError

MAX_MULTIPLIER = 1e6


def parse_schedule(text: str) -> tuple[list[float], list[float]]:
    """(shares of the run in [0, 1], multipliers) of the points in `text`; the value between points is linear."""
    if text == "constant":
        return [0.0], [1.0]
    shares, values = [], []
    for point in text.split():
        share, separator, value = point.partition("%:")
        if not separator:
            raise UserError(f"expected points like 10%:1 separated by spaces, got {point!r}")
        try:
            shares.append(float(share) / 100)
            values.append(float(value))
        except ValueError:
            raise UserError(f"expected two numbers in a point like 10%:1, got {point!r}") from None
    if not shares or shares != sorted(shares) or not all(0 <= share <= 1 for share in shares):
        raise UserError(f"expected points in ascending order from 0% to 100%, such as '0%:0 10%:1', got {text!r}")
    if not all(0 <= value <= MAX_MULTIPLIER for value in values):
        raise UserError(f"expected multipliers from 0 to {MAX_MULTIPLIER:g}, got {text!r}")
    return shares, values


def scheduled(text: str, progress: jax.Array) -> jax.Array:
    """The multiplier, float32 scalar, after the share `progress` of the run."""
    shares, values = parse_schedule(text)
    return jnp.interp(progress, jnp.asarray(shares), jnp.asarray(values))
