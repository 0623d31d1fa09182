"""What every wrapper of an environment passes on."""

from typing import Any

import chex

from ppg_jax.envs.base import Environment, StepResult


class Wrapper:
    """An environment around another; as it stands it changes nothing."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.name = env.name
        self.observation, self.action = env.observation, env.action
        self.max_episode_steps = env.max_episode_steps
        self.task_fields = env.task_fields
        self.given = env.given

    @property
    def unwrapped(self) -> Any:
        """What the innermost environment says."""
        return self._env.unwrapped

    def inner_state(self, state: Any) -> Any:
        """The innermost environment's part of a state."""
        return self._env.inner_state(state)

    def to_env(self, action: chex.Array) -> Any:
        """An action as the innermost environment takes it."""
        return self._env.to_env(action)

    def store(self, obs: Any) -> chex.Array:
        """An observation of the innermost environment as it is stored."""
        return self._env.store(obs)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """A fresh episode: ``(obs, state)``."""
        return self._env.reset(key)

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """One step."""
        return self._env.step(key, state, action)

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """A fresh episode of a state's task: ``(obs, state)``."""
        return self._env.reset_task(key, state)
