"""The steps of an LSTM layer over a window, and the state that goes from window to window.

Forward and backward pass are one `lax.scan` each. The gradient of W_h is made after the backward scan, as one product
over all steps: differentiating the scan itself adds a [hidden, 4 hidden] array to a sum in every step.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from codir_jax.models.products import product


class Carry(NamedTuple):
    """State of a layer between two tokens: h and c, float32 [batch, hidden]."""

    hidden: jax.Array
    cell: jax.Array


def zero_carry(config: Any, batch_size: int) -> tuple[Carry, ...]:
    """The state of each layer before a text."""
    zeros = jnp.zeros((batch_size, config.hidden_size), jnp.float32)
    return tuple(Carry(zeros, zeros) for _ in range(config.num_layers))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recur(
    dtype: Any, inputs: jax.Array, kernel: Any, carry: Carry, kept: jax.Array | None = None
) -> tuple[jax.Array, Carry]:
    """(h_t of all steps, the state after the last).

    Args:
        dtype: of the product with the kernel and of h_t; cells and gates are float32.
        inputs: float32 [time, batch, 4 hidden], W_x x_t + b, gates in the order i, f, g, o.
        kernel: W_h, float32 [hidden, 4 hidden], or what `product` takes in its place.
        carry: the state before the first step.
        kept: float32 [time, batch, 1], 0 where a text begins and the state before is none of its, else 1; None: 1.

    Returns:
        h_t [time, batch, hidden] in `dtype`.
    """
    return _forward(dtype, inputs, kernel, carry, kept)[0]


def _forward(dtype, inputs, kernel, carry, kept):
    def step(before, at):
        x, share = at
        before = _times(share, before)
        gates = x + product(before.hidden.astype(dtype), kernel).astype(jnp.float32)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        cell = f * before.cell + i * g
        after = Carry(o * jnp.tanh(cell), cell)
        return after, (after, jnp.concatenate([i, f, g, o], axis=-1))

    after, (states, gates) = jax.lax.scan(step, carry, (inputs, kept))
    return (states.hidden.astype(dtype), after), (kernel, carry, kept, states, gates)


def _times(share, state):
    return state if share is None else Carry(*(share * one for one in state))


def _backward(dtype, residuals, gradients):
    kernel, carry, kept, states, gates = residuals
    of_states, of_carry = gradients
    before = Carry(*(jnp.concatenate([first[None], rest[:-1]]) for first, rest in zip(carry, states, strict=True)))
    before = _times(kept, before)

    def step(of_after, at):
        of_state, gates, cell, cell_before, share = at
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        squashed = jnp.tanh(cell)
        of_hidden = of_after.hidden + of_state.astype(jnp.float32)
        of_cell = of_after.cell + of_hidden * o * (1 - squashed**2)
        of_gates = jnp.concatenate(
            [
                of_cell * g * i * (1 - i),
                of_cell * cell_before * f * (1 - f),
                of_cell * i * (1 - g**2),
                of_hidden * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return _times(share, Carry(back(of_gates), of_cell * f)), of_gates

    def back(of_gates):
        """Through the product, which is linear in h: it does not matter where its derivative is taken."""
        like = jnp.zeros(carry.hidden.shape, dtype)
        return jax.vjp(lambda h: product(h, kernel), like)[1](of_gates.astype(dtype))[0].astype(jnp.float32)

    parts = (of_states, gates, states.cell, before.cell, kept)
    of_start, of_inputs = jax.lax.scan(step, of_carry, parts, reverse=True)
    of_kernel = jax.vjp(lambda k: product(before.hidden.astype(dtype), k), kernel)[1](of_inputs.astype(dtype))[0]
    return of_inputs, of_kernel, of_start, None if kept is None else jnp.zeros_like(kept)


recur.defvjp(_forward, _backward)
