"""Maximum likelihood of the next token, on a stream whose state goes from batch to batch.

    L = (1 / rows) sum over rows and tokens of -ln P(w_{t+1} | w_1 ... w_t)

summed over time and averaged over rows, so that learning rate 1 and clipping at 5 mean what they mean in Zaremba et al.
(arXiv 1409.2329). The state of every row is the objective's state: it is checkpointed, and split over devices as a
batch is. No gradient goes back into the window before. Where a row begins anew, in every epoch, its state is zero.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.models.recurrence import zero_carry
from codir_jax.objectives.contract import Objective, Setting, Step
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.heads import language_model as head
from codir_jax.objectives.microbatches import run_student
from codir_jax.objectives.texts import init_model
from codir_jax.processes.fields import defaults, field
from codir_jax.sharding.rules import with_axes

HEADS, ROLES = ("language_model",), ("student",)
FIELDS = {"name": field("language_model", "the method, a file of codir_jax/objectives"), **head.FIELDS}


def default_config() -> ConfigDict:
    """Fields of the method; the batch, optimizer and durations live elsewhere."""
    return ConfigDict(defaults(FIELDS))


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective of the module's docstring."""

    def init(rng, batch):
        params = {"student": init_model(setting.student, rng, batch)}
        return params, {}, {"carry": zeros(setting.student, batch)}

    def loss(params, frozen, objective_state, batch, step: Step):
        del frozen
        student = params["student"]
        states, carry = read(setting, student, batch, objective_state["carry"], step.rng)
        terms = setting.head.terms(config, batch, setting.head.view(states, student))
        return per_row(terms.task[0], batch), ({"carry": carry}, terms.metrics)

    return Objective(init, loss, cost=no_cost)


def read(setting: Setting, student, batch, carry, rng):
    """(states before the decoder of the student on a window, its state after it), from the state before it."""
    batch = {**batch, "carry": carried(carry, batch)}
    return run_student(setting, student, batch, rng, lambda output, _: (output.states, output.carry))


def per_row(total, batch):
    """A sum over tokens, as a mean over the rows of the batch."""
    return total / jnp.maximum(batch["example_mask"].sum(), 1.0)


def zeros(model, batch):
    """The state that an objective begins with: that of `start`, split as a batch is."""
    return jax.tree.map(lambda x: with_axes(x, "batch", None), start(model, batch))


def start(student, batch):
    """The state of each row of a batch before its first token: zeros."""
    return zero_carry(student.config, batch["input_ids"].shape[0])


def carried(carry, batch):
    """The state that each row goes on from, without gradient: zeros where it begins anew."""
    goes_on = (1.0 - batch["is_start"])[:, None]
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) * goes_on, carry)
