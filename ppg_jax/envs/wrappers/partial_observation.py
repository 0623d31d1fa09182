"""Partial observation: hidden components and dropped observations."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.base import Environment, StepResult
from ppg_jax.envs.wrappers.base import Wrapper
from ppg_jax.types import Observation

_DROP = 0xD209
"""Number folded into the keys that drop observations, so that no other draw uses these keys."""


class PartlyObserved(Wrapper):
    """Always sets some components of the observation to 0, and sometimes all of them.

    Without velocities (``hide_components``), CartPole and Pendulum need a memory. Dropped
    observations are the flickering games of Hausknecht & Stone (2015, arXiv:1507.06527). Shapes do
    not change, so the same network can also play the fully observed environment.

    A value network with observations of its own still sees everything.

    Args:
      env: environment to wrap.
      hide_components: indices of the flattened observation.
      drop_observations: probability that an observation is dropped, independently at each step and
        reset. A hidden or dropped category number is -1, which networks read as zeros.

    Raises:
      ConfigError: there is no such component, or observations are stored as bits.
    """

    def __init__(
        self, env: Environment, hide_components: tuple[int, ...], drop_observations: float
    ) -> None:
        super().__init__(env)
        self._drop = drop_observations
        if env.observation.packed:
            raise ConfigError(
                "observation_dtype: mixed cannot be used with hide_components and "
                "drop_observations; use native"
            )
        shape, named = env.observation.shape, env.observation.categories is not None
        scalar = named and not shape
        size = int(np.prod(shape, dtype=int))
        wrong = [i for i in hide_components if scalar or i >= size]
        if wrong:
            some = "a single number" if scalar else f"components 0 to {size - 1}"
            raise ConfigError(
                f"hide_components: {wrong[0]} is invalid; observations of {env.name} have {some}"
            )
        shown = np.ones(size, np.bool_)
        shown[list(hide_components)] = False
        self._shown = shown.reshape(shape)
        self._nothing = -1 if named else 0

    def store(self, obs: Any) -> chex.Array:
        """Converts an observation to its stored form, with hidden components blanked."""
        return self._hide(self._env.store(obs))

    def _hide(self, obs: Any) -> Any:
        if isinstance(obs, Observation):
            return obs.replace(policy=self._hide(obs.policy))
        return jnp.where(self._shown, obs, jnp.full_like(obs, self._nothing))

    def _see(self, key: chex.PRNGKey, obs: Any) -> Any:
        obs = self._hide(obs)
        return self._maybe_drop(key, obs) if self._drop else obs

    def _maybe_drop(self, key: chex.PRNGKey, obs: Any) -> Any:
        if isinstance(obs, Observation):
            return obs.replace(policy=self._maybe_drop(key, obs.policy))
        lost = jax.random.bernoulli(jax.random.fold_in(key, _DROP), self._drop)
        return jnp.where(lost, jnp.full_like(obs, self._nothing), obs)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """Begins an episode and returns ``(obs, state)``, partly observed."""
        obs, state = self._env.reset(key)
        return self._see(key, obs), state

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """Takes one step, partly observed."""
        result = self._env.step(key, state, action)
        return result._replace(obs=self._see(key, result.obs))

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """Begins an episode of a state's task and returns ``(obs, state)``, partly observed."""
        obs, state = self._env.reset_task(key, state)
        return self._see(key, obs), state
