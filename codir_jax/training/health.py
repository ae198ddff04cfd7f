"""Whether the terms of a loss pull together, and whether each still has something to teach."""

import contextlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from codir_jax.objectives.contract import Objective, Step
from codir_jax.sharding import rules


def term_gradients(objective: Objective, layout=None) -> Callable:
    """A jitted function (params, frozen, objective_state, batch, progress) -> name -> float32 scalar.

    Of each of `objective.terms`, weighted as it is at that `progress`, without dropout, with respect to the student:

        gradient_norm_TERM     length of its gradient
        gradient_cosine_TERM   cosine of its gradient with that of the task, the first term; 0 where one of them is 0

    It costs as many gradients as there are terms.

    Args:
      layout: (mesh, table of `sharding.rules`) of the step; None leaves placing to XLA.
    """

    def measure(params, frozen, objective_state, batch, progress):
        def gradient(term):
            def loss(student):
                step = Step(None, progress, term)
                return objective.loss({**params, "student": student}, frozen, objective_state, batch, step)[0]

            return jax.grad(loss)(params["student"])

        found = {}
        with rules.on_mesh(*layout) if layout else contextlib.nullcontext():
            first, *others = objective.terms
            of_task = gradient(first)
            norm_of_task = found[f"gradient_norm_{first}"] = optax.global_norm(of_task)
            for term in others:
                own = gradient(term)
                norm = found[f"gradient_norm_{term}"] = optax.global_norm(own)
                product = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, own, of_task)))
                length = norm * norm_of_task
                found[f"gradient_cosine_{term}"] = jnp.where(length > 0, product / jnp.where(length > 0, length, 1), 0)
        return found

    return jax.jit(measure)


class Learned:
    """Since when a term has had nothing more to teach: its metric has stayed at or above a level.

    Args:
      levels: of `Objective.has_learned`.
      since: metric -> step, of an earlier part of the run; it is updated, to be checkpointed.
    """

    def __init__(self, levels: Mapping[str, float], since: dict[str, int]):
        self._levels, self._since = levels, since

    def look(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Lines that a person should read, of metrics over the steps up to this one: each once, when it begins."""
        lines = []
        for name, level in self._levels.items():
            if name not in values:
                continue
            if values[name] < level:
                self._since.pop(name, None)
            elif name not in self._since:
                self._since[name] = step
                lines.append(
                    f"note: {name} is {values[name]:.4g}: the contrastive term has had nothing to teach since step "
                    f"{step} (from {level:g} on); a regression of hidden states (objective.hidden_loss) still has"
                )
        return lines
