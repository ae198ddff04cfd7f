"""What the first step starts from: its shapes and their places on the mesh, at no cost, and then the values."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codir_jax.objectives.contract import Objective
from codir_jax.sharding import rules
from codir_jax.training import state as state_lib


@dataclasses.dataclass(frozen=True, eq=False)
class InitialState:
    """State and frozen arrays of an objective before the first step.

    Attributes:
      objective: the method. tx: optimizer.
      example: a host batch; only its shapes matter.
      mesh: of the devices. rules: logical axis -> mesh axis.
      seed: of initialisation, dropout and sampling. prng_impl: of the rng in the state.
    """

    objective: Objective
    tx: optax.GradientTransformation
    example: Mapping[str, Any]
    mesh: Any
    rules: Any
    seed: int
    prng_impl: str

    def abstract(self, without: Collection[str] = ()):
        """(state, frozen) of jax.ShapeDtypeStruct with their shardings; nothing is allocated.

        Args:
          without: entries of frozen that the run does not need, such as a teacher whose outputs are cached.
        """
        boxed = jax.eval_shape(self._init, 0)
        places = rules.shardings(boxed, self.mesh, self.rules)
        params, frozen, objective_state = jax.tree.map(_placed, rules.unbox(boxed), places)
        whole = rules.replicated(self.mesh)
        state = jax.eval_shape(self._create, params, objective_state)
        state = jax.tree.map(_placed, state, state_lib.shardings(state, places[0], places[2], whole))
        return state, {name: value for name, value in frozen.items() if name not in without}

    def tables(self, outputs: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Entries of frozen that the objective makes of the teacher's outputs; {} where it makes none.

        Args:
          outputs: "teacher_pooled" float [num_train, matches, width] of the whole train set.
        """
        if self.objective.tables is None:
            return {}
        whole, split = rules.replicated(self.mesh), rules.batch_sharding(self.mesh, self.rules)
        pooled = jax.device_put(np.asarray(outputs["teacher_pooled"]), whole)
        return jax.device_put(self.objective.tables(pooled, lambda rows: jax.device_put(rows, split)), whole)

    def fill(self, abstract, student_params, given: Mapping[str, Any]):
        """(state, frozen) on the devices, initialised in place on the mesh.

        Args:
          abstract: of `abstract`.
          student_params: weights that the student starts from; None for random ones.
          given: entries of frozen that come from elsewhere and have only a stand-in in `objective.init`.
        """
        state, frozen = abstract
        missing = {name: value for name, value in frozen.items() if name not in given}

        def init(seed):
            params, made, objective_state = rules.unbox(self._init(seed))
            return params, {name: made[name] for name in missing}, objective_state

        places = shardings_of((state.params, missing, state.objective_state))
        params, made, objective_state = jax.jit(init, out_shardings=places)(self.seed)
        if student_params is not None:
            params["student"] = jax.device_put(student_params, places[0]["student"])
        create = jax.jit(self._create, out_shardings=shardings_of(state), donate_argnums=(0, 1))
        return create(params, objective_state), {**made, **given}

    def _init(self, seed):
        return self.objective.init(jax.random.key(seed), jax.tree.map(jnp.asarray, self.example))

    def _create(self, params, objective_state):
        return state_lib.create(params, objective_state, self.tx, self.seed, self.prng_impl)


def shardings_of(tree):
    """Where the leaves of a tree of arrays, or of their shapes, lie."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def _placed(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
