"""What a run is between two steps, all of it checkpointed."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
    """State of a run.

    Attributes:
      step: int32 scalar, finished steps; also the position in the data.
      params: float32 tree, trained; the student is under "student".
      opt_state: of the optax transformation.
      objective_state: banks, queues, normalisers of the objective.
      rng: uint32 key data; each step uses fold_in(rng, step), so it never changes.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    objective_state: Any
    rng: jax.Array


def create(params, objective_state, tx: optax.GradientTransformation, seed: int, prng_impl: str) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        objective_state=objective_state,
        rng=jax.random.key_data(jax.random.key(seed, impl=prng_impl)),
    )
