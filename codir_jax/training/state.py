"""What a run is between two steps, all of it checkpointed."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from codir_jax.training.optimizer import Optimizer


class TrainState(NamedTuple):
    """State of a run.

    Attributes:
      step: int32 scalar, finished steps; also the position in the data.
      params: float32 tree, trained; the student is under "student".
      opt_state: of the optimizer; it holds nothing of frozen parameters.
      objective_state: banks, queues, normalisers of the objective.
      rng: uint32 key data; each step uses fold_in(rng, step), so it never changes.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    objective_state: Any
    rng: jax.Array


def create(
    params, objective_state, tx: Optimizer | optax.GradientTransformation, seed: int, prng_impl: str
) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        objective_state=objective_state,
        rng=jax.random.key_data(jax.random.key(seed, impl=prng_impl)),
    )


def shardings(abstract: TrainState, of_params, of_objective_state, whole) -> TrainState:
    """A TrainState of shardings: each moment of the optimizer lies as its parameter, counters and rng lie whole.

    Args:
      abstract: `jax.eval_shape` of `create`.
      of_params, of_objective_state: trees of shardings like the parameters and the objective's state.
      whole: the sharding of what every device holds.
    """
    of_path = {_names(path): sharding for path, sharding in jax.tree_util.tree_leaves_with_path(of_params)}

    def of_moment(path, leaf):
        names = _names(path)
        # An optax state holds whole parameter trees somewhere inside: the end of the path is a parameter's.
        suffixes = (names[start:] for start in range(len(names)))
        return next((of_path[suffix] for suffix in suffixes if leaf.ndim and suffix in of_path), whole)

    of_optimizer = jax.tree_util.tree_map_with_path(of_moment, abstract.opt_state)
    return TrainState(whole, of_params, of_optimizer, of_objective_state, whole)


def _names(path) -> tuple[str, ...]:
    return tuple(str(key) for key in path)
