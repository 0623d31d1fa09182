"""What a run starts from: random keys, what another run has learned, or a training state."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm import Learned, with_learned
from ppg_jax.execution.dispatch import shard
from ppg_jax.execution.layout import Layout
from ppg_jax.types import TrainState


@dataclasses.dataclass(frozen=True)
class Start:
    """A training state from which a run continues.

    Attributes:
      state: training state, leaves ``[replicas, ...]``.
      phases: number of phases completed in this state.
      compile_seconds: compile time up to this state.
      run_seconds: run time up to this state.
    """

    state: Any
    phases: int
    compile_seconds: float = 0.0
    run_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """A new run with what another run has learned: its own keys, and environments at their start.

    Attributes:
      keys: random keys ``[replicas]``.
      learned: what is taken, leaves ``[replicas, ...]``.
    """

    keys: chex.PRNGKey
    learned: Learned


def begins_with(start: chex.PRNGKey | WarmStart | Start) -> Any:
    """The argument of the first program of a run: keys, or a training state."""
    if isinstance(start, Start):
        return start.state
    return start.keys if isinstance(start, WarmStart) else start


def warmed(states: list[TrainState], start: WarmStart, layout: Layout) -> list[TrainState]:
    """States of ``init`` with what another run has learned, batch by batch, on the same devices."""

    def place(old: jax.Array, new: Any) -> jax.Array:
        # A copy of its own for every leaf: the next program overwrites it.
        return jax.device_put(jnp.array(new), old.sharding)

    parts = shard(start.learned, layout)
    return [with_learned(state, part, place) for state, part in zip(states, parts, strict=True)]
