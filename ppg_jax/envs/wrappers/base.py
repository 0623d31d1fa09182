"""The base class of wrappers."""

from typing import Any

import chex

from ppg_jax.envs.base import Environment, StepResult


class Wrapper:
    """Forwards everything to the wrapped environment. Subclasses override what they change."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.name = env.name
        self.observation, self.action = env.observation, env.action
        self.max_episode_steps = env.max_episode_steps
        self.task_fields = env.task_fields
        self.given = env.given

    @property
    def unwrapped(self) -> Any:
        """The suite's own environment object, from the innermost environment."""
        return self._env.unwrapped

    def inner_state(self, state: Any) -> Any:
        """The innermost environment's part of a state."""
        return self._env.inner_state(state)

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """The innermost environment's measures of an episode, by its state."""
        return self._env.measures(state)

    def to_env(self, action: chex.Array) -> Any:
        """Converts a policy's action for the innermost environment."""
        return self._env.to_env(action)

    def store(self, obs: Any) -> chex.Array:
        """Converts an observation of the innermost environment to its stored form."""
        return self._env.store(obs)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        return self._env.reset(key)

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """Takes one step."""
        return self._env.step(key, state, action)

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """Begins an episode of a state's task and returns ``(obs, state)``."""
        return self._env.reset_task(key, state)
