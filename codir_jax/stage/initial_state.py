"""What the first step starts from: its shapes and their places on the mesh, at no cost, and then the values."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.objectives.contract import Objective
from codir_jax.sharding import rules
from codir_jax.training import state as state_lib
from codir_jax.training.optimizer import Optimizer
from codir_jax.training.state import TrainState
from codir_jax.training.step import make_train_step

# Folded into the seed's key for initialisation: the steps fold in their numbers, and no draw is to come twice.
INIT = 0x696E6974


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class InitialState:
    """State and frozen arrays of an objective before the first step, and the step that goes on from them.

    Attributes:
      objective: the method. tx: optimizer.
      example: a host batch; only its shapes matter.
      mesh: of the devices. rules: logical axis -> mesh axis.
      num_steps: length of the run.
      seed: of initialisation, dropout and sampling, below 2^32. prng_impl: of the rng in the state.
      gradient_dtype: of the step, see `training.step.make_train_step`.
    """

    objective: Objective
    tx: Optimizer
    example: Mapping[str, Any]
    mesh: Any
    rules: Any
    num_steps: int
    seed: int = 0
    prng_impl: str = "threefry2x32"
    gradient_dtype: str = "float32"

    def abstract(self, without: Collection[str] = ()):
        """(state, frozen) of jax.ShapeDtypeStruct with their shardings; nothing is allocated.

        Args:
          without: entries of frozen that the run does not need, such as a teacher whose outputs are cached.

        Raises:
          UserError: the optimizer's rules do not fit the parameters.
        """
        state, frozen = self._abstract
        return state, _without(frozen, without)

    @functools.cached_property
    def _abstract(self):
        boxed = jax.eval_shape(self._init, 0)
        places = rules.shardings(boxed, self.mesh, self.rules)
        params, frozen, objective_state = jax.tree.map(_placed, rules.unbox(boxed), places)
        whole = rules.replicated(self.mesh)
        state = jax.eval_shape(self._create, params, objective_state)
        return jax.tree.map(_placed, state, state_lib.shardings(state, places[0], places[2], whole)), frozen

    def tables(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Entries of frozen with a row for each train row, split over the devices; {} where the objective has none.

        Args:
          rows: the teacher's view of the whole train set, name -> float [num_train, ...]; {} where it is not kept.
        """
        if self.objective.row_tables is None:
            return {}
        made = self.objective.row_tables(rows, rules.batch_sharding(self.mesh, self.rules))
        frozen = self._abstract[1]
        return {name: table.placed(frozen[name].sharding) for name, table in made.items()}

    def fill_state(self, abstract: TrainState, student_params) -> TrainState:
        """The state before the first step, initialised in place on the mesh.

        Args:
          abstract: the state of `abstract`.
          student_params: weights that the student starts from; None for random ones.
        """
        given = {} if student_params is None else {"student": student_params}

        def init(seed):
            params, _, objective_state = rules.unbox(self._init(seed))
            return _without(params, given), objective_state  # what is given is not drawn, nor compiled

        places = shardings_of((abstract.params, abstract.objective_state))
        params, objective_state = jax.jit(init, out_shardings=(_without(places[0], given), places[1]))(
            np.uint32(self.seed)
        )
        params |= {name: jax.device_put(weights, places[0][name]) for name, weights in given.items()}
        create = jax.jit(self._create, out_shardings=shardings_of(abstract), donate_argnums=(0, 1))
        return create(params, objective_state)

    def fill_frozen(self, abstract: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The frozen arrays on the mesh, which a resumed run makes again.

        Args:
          abstract: the frozen arrays of `abstract`.
          given: entries that come from elsewhere and have only a stand-in in `objective.init`.
        """
        missing = {name: value for name, value in abstract.items() if name not in given}
        if not missing:
            return dict(given)

        def init(seed):
            made = rules.unbox(self._init(seed))[1]
            return {name: made[name] for name in missing}

        return {**jax.jit(init, out_shardings=shardings_of(missing))(np.uint32(self.seed)), **given}

    @property
    def num_early_steps(self) -> int:
        """Steps at the start of the run that have the objective's early loss."""
        early = self.objective.early
        return min(round(early.until * self.num_steps), self.num_steps - 1) if early else 0

    def step(self, abstract, *, skips_non_finite: bool = False, is_early: bool = False):
        """The jitted step for what `abstract` describes; see `training.step.make_train_step`.

        Args:
          is_early: of the first `num_early_steps` of the run.
        """
        early = self.objective.early
        split = rules.batch_sharding(self.mesh, self.rules)
        return make_train_step(
            self.objective._replace(loss=early.loss) if is_early else self.objective,
            self.tx,
            num_steps=self.num_steps,
            prng_impl=self.prng_impl,
            shardings=(*shardings_of(abstract), split),
            layout=(self.mesh, self.rules),
            skips_non_finite=skips_non_finite,
            gradient_dtype=self.gradient_dtype,
        )

    def _init(self, seed):
        rng = jax.random.fold_in(jax.random.key(seed), INIT)
        return self.objective.init(rng, jax.tree.map(jnp.asarray, self.example))

    def _create(self, params, objective_state):
        return state_lib.create(params, objective_state, self.tx, self.seed, self.prng_impl)


def _without(tree: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name not in names}


def shardings_of(tree):
    """Where the leaves of a tree of arrays, or of their shapes, lie."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def _placed(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
