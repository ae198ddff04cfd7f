"""One training step of any objective, compiled once per batch shape: the only training jit of the program."""

import contextlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from codir_jax.models import products
from codir_jax.objectives.contract import Objective, Step
from codir_jax.sharding import fsdp, rules
from codir_jax.training.metrics import SKIPPED
from codir_jax.training.optimizer import Optimizer, of_optax
from codir_jax.training.state import TrainState


def make_train_step(
    objective: Objective,
    tx: Optimizer | optax.GradientTransformation,
    *,
    num_steps: int,
    prng_impl: str,
    shardings=None,
    layout=None,
    skips_non_finite: bool = False,
    gradient_dtype: str = "float32",
) -> Callable:
    """A function (state, frozen, batch) -> (state, metrics) that donates the state's buffers.

    Args:
      objective: the method.
      tx: of `optimizer.make_optimizer`; its learning rate is that of the state's step, whatever was skipped before.
        Parameters that it does not train stay bit for bit, get no gradient and are not in "gradient_norm".
      num_steps: length of the run, for the schedules of the loss weights.
      prng_impl: of the rng in the state, e.g. "threefry2x32".
      shardings: (state, frozen, batch) trees of shardings, None on one device.
      layout: (mesh, table of `sharding.rules`) by which activations are placed; None leaves that to XLA.
      skips_non_finite: where loss or gradient norm is not finite, parameters, optimizer and objective state stay as
        they were and the metric "skipped_updates" is 1. It costs a second copy of the objective state.
      gradient_dtype: of the gradients of kernels in bfloat16 models, and of their sum over devices.

    Returns:
      The jitted step. `metrics` are (sum, count) pairs, with "loss" and "gradient_norm" added to the objective's.
    """

    if not isinstance(tx, Optimizer):
        tx = of_optax(tx)

    def gather(params, frozen):
        if shardings is None:
            return params, frozen
        # Of the frozen arrays trees are weights; an array by itself is a table of rows, which stays where it is.
        weights = {name: tree for name, tree in frozen.items() if not isinstance(tree, jax.Array)}
        weights = fsdp.gathered(weights, {name: shardings[1][name] for name in weights})
        return fsdp.gathered(params, shardings[0].params), {**frozen, **weights}

    def step(state: TrainState, frozen, batch):
        trained = tx.trained(state.params)
        rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng, impl=prng_impl), state.step)

        def loss_of(params):
            # A frozen parameter costs no backward pass.
            params = jax.tree.map(lambda t, p: p if t else jax.lax.stop_gradient(p), trained, params)
            return objective.loss(
                *gather(params, frozen), state.objective_state, batch, Step(rng, state.step / num_steps)
            )

        on_mesh = rules.on_mesh(*layout) if layout else contextlib.nullcontext()
        with on_mesh, products.kernel_gradients(gradient_dtype):
            (loss, (objective_state, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, step=state.step)
        params = optax.apply_updates(state.params, updates)
        # Not p + 0, which is another array than p, and another number where p is -0.
        params = jax.tree.map(lambda t, new, old: new if t else old, trained, params, state.params)
        if objective.constrain is not None:
            params = objective.constrain(params, objective_state)
        one = jnp.ones(())
        norm = optax.global_norm(grads)
        metrics = {"loss": (loss, one), **metrics, "gradient_norm": (norm, one)}
        updated = (params, opt_state, objective_state)
        if skips_non_finite:
            is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
            before = (state.params, state.opt_state, state.objective_state)
            updated = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), updated, before)
            metrics[SKIPPED] = (1.0 - is_finite, one)
        return TrainState(state.step + 1, *updated, state.rng), metrics

    if shardings is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(step, donate_argnums=0, in_shardings=shardings, out_shardings=(shardings[0], None))
