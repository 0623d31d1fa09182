"""The interfaces of environments: a single one, and a batch that is stepped together."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import chex

from ppg_jax.types import ActionSpec, ObservationSpec


class StepResult(NamedTuple):
    """One step of one environment.

    Attributes:
      obs: real successor observation, also at the end of an episode.
      state: state of the environment, with the same shapes and dtypes as after ``reset``.
      reward: raw reward, float32 scalar.
      terminated: True if a terminal state was reached, bool scalar.
      truncated: True if a time limit cut the episode, bool scalar.
      begins: True if ``obs`` begins the next episode of the same task, bool. Neither
        ``terminated`` nor ``truncated`` is set then, because the task continues.
    """

    obs: chex.Array
    state: Any
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    begins: chex.Array | bool = False


class Environment(Protocol):
    """A single environment as pure functions; ``envs.vector`` runs B of them in parallel.

    Attributes:
      name: name for display.
      observation: spec of the stored observations.
      action: spec of the policy's actions.
      max_episode_steps: length limit of an episode, or None if unknown.
      task_fields: names of the state fields that define the task; empty if unknown.
      given: shapes and dtypes of one observation as the suite returns it, a tree of
        ``jax.ShapeDtypeStruct``.
    """

    name: str
    observation: ObservationSpec
    action: ActionSpec
    max_episode_steps: int | None
    task_fields: tuple[str, ...]
    given: Any

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """Begins an episode and returns ``(obs, state)``."""

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """Takes one step. Policy actions are int32 ``[]``, int32 ``[K]`` or float32 ``[A]``."""

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """Begins an episode that keeps the ``task_fields`` of a state; returns ``(obs, state)``."""

    def to_env(self, action: chex.Array) -> Any:
        """Converts a policy's action to the structure, shape, dtype and bounds of the suite."""

    def store(self, obs: Any) -> chex.Array:
        """Converts an observation of the suite to the form that is stored for the networks."""

    @property
    def unwrapped(self) -> Any:
        """The suite's own environment object, for drawing."""

    def inner_state(self, state: Any) -> Any:
        """The part of a state that belongs to the suite's own environment."""

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """Named scalars of an episode by its state, bool or float32; mostly none."""


class Batch(Protocol):
    """B environments that are stepped together, as ``envs.vector`` runs them.

    Attributes:
      action: spec of the policy's actions.
      outside: whether the environments live outside of the program. Then a state cannot be vmapped,
        stepped twice or saved.
    """

    action: ActionSpec
    outside: bool

    def reset_batch(self, key: chex.PRNGKey, num_envs: int) -> tuple[Any, Any]:
        """Begins B episodes and returns ``(obs, state)``; ``obs`` has leaves ``[B, ...]``."""

    def draw(self, key: chex.PRNGKey, num_envs: int) -> Any:
        """The randomness of one step, as far as it does not depend on states or actions."""

    def draw_resets(self, randomness: Any) -> Any:
        """The randomness of a step, with what it needs to begin new episodes."""

    def step_batch(
        self, randomness: Any, state: Any, actions: chex.Array
    ) -> tuple[StepResult, Any, Any]:
        """Takes a step in each environment, and begins a new episode where one ended.

        Args:
          randomness: of ``draw``.
          state: of ``reset_batch`` or of an earlier step.
          actions: of the policy, ``[B, ...]``.

        Returns:
          The results, leaves ``[B, ...]``; then observations and states after new episodes began.
        """

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """Measures of B episodes by name, ``[B]``; mostly none."""

    def shown(self, obs: Any, state: Any) -> Any:
        """What pictures are drawn from, leaves ``[B, ...]``."""

    def close(self, state: Any) -> None:
        """Frees what the environments of a state hold. The state cannot be stepped any more."""


@runtime_checkable
class BatchEnvironment(Batch, Protocol):
    """An environment that exists as a batch only.

    It is for libraries that begin new episodes themselves, or that are not written in JAX.

    Attributes:
      name: name for display.
      observation: spec of the stored observations.
      action: spec of the policy's actions.
      max_episode_steps: length limit of an episode, or None if unknown.
      given: shapes and dtypes of one observation as the suite returns it.
    """

    name: str
    observation: ObservationSpec
    action: ActionSpec
    max_episode_steps: int | None
    given: Any

    def to_env(self, action: chex.Array) -> Any:
        """Converts a policy's action to the structure, shape, dtype and bounds of the suite."""

    def store(self, obs: Any) -> Any:
        """Converts one observation of the suite to the form that is stored for the networks."""

    @property
    def unwrapped(self) -> Any:
        """The suite's own object, for drawing."""


AnyEnvironment = Environment | BatchEnvironment
"""What ``envs.vector`` can run."""
