"""Environments of which the agent sees less than there is."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.base import Environment, StepResult
from ppg_jax.envs.wrappers.base import Wrapper

_DROP = 0xD209
"""What the keys that drop observations are folded with: no other draw shares them."""


class PartlyObserved(Wrapper):
    """Some components of the observation are always 0, and now and then all of them are.

    Without velocities (``hide_components``) CartPole and Pendulum ask for memory; observations that
    go missing are the flickering games of Hausknecht & Stone (2015, arXiv:1507.06527). Shapes stay,
    so that the same network also plays the whole environment.

    Args:
      env: the whole.
      hide_components: numbers of the flattened observation.
      drop_observations: probability with which an observation is lost, independently at each step
        and reset. A lost state number is -1, which networks read as zeros.

    Raises:
      ConfigError: there is no such component.
    """

    def __init__(
        self, env: Environment, hide_components: tuple[int, ...], drop_observations: float
    ) -> None:
        super().__init__(env)
        self._drop = drop_observations
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
        """An observation of the whole environment, with what is hidden left out."""
        return self._hide(self._env.store(obs))

    def _hide(self, obs: chex.Array) -> chex.Array:
        return jnp.where(self._shown, obs, jnp.full_like(obs, self._nothing))

    def _see(self, key: chex.PRNGKey, obs: chex.Array) -> chex.Array:
        obs = self._hide(obs)
        if not self._drop:
            return obs
        lost = jax.random.bernoulli(jax.random.fold_in(key, _DROP), self._drop)
        return jnp.where(lost, jnp.full_like(obs, self._nothing), obs)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """A fresh episode: ``(obs, state)``."""
        obs, state = self._env.reset(key)
        return self._see(key, obs), state

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """One step of the whole environment, partly seen."""
        result = self._env.step(key, state, action)
        return result._replace(obs=self._see(key, result.obs))

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """A fresh episode of a state's task, partly seen."""
        obs, state = self._env.reset_task(key, state)
        return self._see(key, obs), state
