"""Recurrences over time: cells step by step, and linear ones by an associative scan."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

State = dict[str, chex.Array]
Pair = tuple[chex.Array, chex.Array]
Cell = Callable[[chex.Array, chex.Array, State], State]
"""``(drive, recurrent, state) -> state``. ``drive`` is the gates' input from the features and
``recurrent`` their input from the hidden state, both ``[..., gates * H]``. The state's leaves are
``[..., H]``."""


def lstm_cell(drive: chex.Array, recurrent: chex.Array, state: State) -> State:
    """One step of an LSTM; gates in the order input, forget, candidate, output."""
    i, f, g, o = jnp.split(drive + recurrent, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * state["cell"] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return {"cell": cell, "hidden": jax.nn.sigmoid(o) * jnp.tanh(cell)}


def gru_cell(drive: chex.Array, recurrent: chex.Array, state: State) -> State:
    """One step of a GRU; gates in the order reset, keep, candidate."""
    (r, z, n), (hr, hz, hn) = jnp.split(drive, 3, axis=-1), jnp.split(recurrent, 3, axis=-1)
    z = jax.nn.sigmoid(z + hz)
    candidate = jnp.tanh(n + jax.nn.sigmoid(r + hr) * hn)
    return {"hidden": z * state["hidden"] + (1.0 - z) * candidate}


def at_start(start: chex.Array, state: State) -> State:
    """The state with zeros where an episode begins."""
    kept: State = jax.tree.map(lambda x: jnp.where(start[..., None], 0.0, x), state)
    return kept


def recur(
    cell: Cell, kernel: chex.Array, drive: chex.Array, starts: chex.Array, state: State
) -> State:
    """Runs a cell over a sequence.

    Args:
      cell: pure function of one step. The kernel multiplies ``hidden`` of its state.
      kernel: recurrent weights ``[H, gates * H]``.
      drive: the gates' input from the features, ``[T, B, gates * H]``.
      starts: whether the state is set to zero before a step, bool ``[T, B]``.
      state: before the first step, leaves ``[B, H]``.

    Returns:
      States after every step, leaves ``[T, B, H]``.
    """

    def step(state: State, inputs: tuple[chex.Array, chex.Array]) -> tuple[State, State]:
        drive, start = inputs
        state = at_start(start, state)
        state = cell(drive, state["hidden"] @ kernel, state)
        return state, state

    states: State = jax.lax.scan(step, state, (drive, starts))[1]
    return states


@jax.custom_vjp
def linear_recurrence(keep: chex.Array, drive: chex.Array, state: chex.Array) -> chex.Array:
    """``h_t = keep_t h_{t-1} + drive_t`` for all steps, by an associative scan.

    The gradient is the same recurrence backwards in time. JAX's own gradient of the scan would undo
    every slice of it one by one, which is slower.

    Args:
      keep: ``[T, B, H]``; 0 where an episode begins.
      drive: ``[T, B, H]``.
      state: ``h`` before the first step, ``[B, H]``.

    Returns:
      ``h`` after every step, ``[T, B, H]``.
    """
    return _scan_linear(keep, drive.at[0].add(keep[0] * state))


def _scan_linear(keep: chex.Array, drive: chex.Array, *, reverse: bool = False) -> chex.Array:
    def then(first: Pair, second: Pair) -> Pair:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(then, (keep, drive), reverse=reverse)[1]


def _linear_forward(keep: Any, drive: Any, state: Any) -> tuple[chex.Array, tuple[Any, ...]]:
    states = linear_recurrence(keep, drive, state)
    return states, (keep, state, states)


def _linear_backward(kept: tuple[Any, ...], grads: chex.Array) -> tuple[chex.Array, ...]:
    keep, state, states = kept
    # The next step's ``keep`` passes the gradient on to this step.
    later = jnp.concatenate([keep[1:], jnp.zeros_like(keep[:1])])
    total = _scan_linear(later, grads, reverse=True)
    before = jnp.concatenate([state[None], states[:-1]])
    return total * before, total, keep[0] * total[0]


linear_recurrence.defvjp(_linear_forward, _linear_backward)
