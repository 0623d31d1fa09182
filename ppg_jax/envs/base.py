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
      begins: the successor begins a new episode though nothing ended, bool: tasks have several.
    """

    obs: chex.Array
    state: Any
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    begins: chex.Array | bool = False


class Environment(Protocol):
    """A single environment as pure functions; ``envs.vector`` makes B of it.

    Attributes:
      name: for people.
      observation: shape, storage dtype and reading of observations.
      action: kind and sizes of actions.
      max_episode_steps: longest episode, or None where nothing is said.
      task_fields: names of the fields of a state that make the task, where that is known.
      given: shapes and dtypes of one observation as the suite gives it, a tree of
        ``jax.ShapeDtypeStruct``.
    """

    name: str
    observation: ObservationSpec
    action: ActionSpec
    max_episode_steps: int | None
    task_fields: tuple[str, ...]
    given: Any

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """A fresh episode: ``(obs, state)``."""

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """One step. ``action`` is the policy's: int32 ``[]`` or ``[K]``, or float32 ``[A]``."""

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """A fresh episode with the ``task_fields`` of a state: ``(obs, state)``."""

    def to_env(self, action: chex.Array) -> Any:
        """The policy's action as the suite takes it: its structure, shape, dtype and bounds."""

    def store(self, obs: Any) -> chex.Array:
        """An observation as the suite gives it, as it is stored for the networks."""

    @property
    def unwrapped(self) -> Any:
        """What the suite itself calls the environment, for drawing."""

    def inner_state(self, state: Any) -> Any:
        """The suite's own part of a state."""
