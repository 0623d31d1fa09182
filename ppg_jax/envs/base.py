"""What an environment suite must offer: one environment, stepped purely, without auto-reset."""

from typing import Any, NamedTuple, Protocol

import chex

from ppg_jax.types import ActionSpec, ObservationSpec


class StepResult(NamedTuple):
    """One step of one environment.

    Attributes:
      obs: the real successor observation, also where the episode ended.
      state: the environment's state, of the same shapes and dtypes as ``reset`` gives.
      reward: raw, float32 scalar.
      terminated: a terminal state was reached, bool scalar.
      truncated: a time limit cut the episode, bool scalar.
    """

    obs: chex.Array
    state: Any
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array


class Environment(Protocol):
    """A single environment as pure functions; ``envs.vector`` makes B of it.

    Attributes:
      name: for people.
      observation: shape, storage dtype and reading of observations.
      action: kind and sizes of actions.
      max_episode_steps: longest episode, or None where nothing is said.
    """

    name: str
    observation: ObservationSpec
    action: ActionSpec
    max_episode_steps: int | None

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """A fresh episode: ``(obs, state)``."""

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """One step. ``action`` is the policy's: int32 ``[]`` or ``[K]``, or float32 ``[A]``."""
