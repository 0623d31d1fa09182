"""Navix (Pignatelli et al. 2024, arXiv:2407.19396): MiniGrid in JAX.

Tasks differ between versions of the suite: with Python 3.11 pip installs 0.7, with 3.12 it installs
4.0. For example, the limit of Empty-8x8 is 100 steps in one and 256 in the other.
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError, did_you_mean
from ppg_jax.envs.spaces import Box, Discrete, MultiDiscrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_id,
    check_names,
    take_time_limit,
)

OBSERVATIONS = (
    "symbolic",
    "symbolic_first_person",
    "categorical",
    "categorical_first_person",
    "rgb",
    "rgb_first_person",
)
"""Kinds of observations, for ``env_kwargs.observation``."""
SIZES = (11, 6, 4)
"""Categories of a tile's three numbers: entity, colour, and state or direction.

A state may also be 254, which stands for "none"; networks read it as zeros.
"""
TERMINATION = 2


class Navix(SuiteEnvironment):
    """An environment of Navix, by default with the whole grid in symbols, uint8 ``[H, W, 3]``."""

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        import navix

        check_names("env_kwargs", env_kwargs, ("observation",), env_id)
        kind = env_kwargs.get("observation", "symbolic")
        if kind not in OBSERVATIONS:
            raise ConfigError(
                f"env_kwargs.observation: {kind!r} is invalid; {did_you_mean(kind, OBSERVATIONS)}"
                f"use one of {', '.join(OBSERVATIONS)}"
            )
        made = navix.make(env_id, observation_fn=getattr(navix.observations, kind))
        self.name = env_id
        self.max_episode_steps, rest = take_time_limit(env_params, int(made.max_steps))
        check_names("env_params", rest, ("max_steps_in_episode",), env_id)
        self._env = made.replace(max_steps=self.max_episode_steps or NO_LIMIT)
        # The sprites are the same in all states, and most of their bytes.
        self._first = jax.jit(self._env.reset)(jax.random.key(0))
        self._sprites = self._first.state.cache
        self.action_space = Discrete(len(self._env.action_set))
        self.observation_space = _space(self._first.observation, kind)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``; the state is ``(navix state, time)``."""
        first = self._env.reset(key)
        return first.observation, (first.state.replace(cache=None), first.t)

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step, without the suite's reset. All randomness is in the state."""
        inner, time = state
        before = self._first.replace(state=inner.replace(cache=self._sprites), t=time)
        after = self._env._step(before, action)
        inner = after.state.replace(cache=None)
        over = after.step_type == TERMINATION
        return SuiteStep(after.observation, (inner, after.t), after.reward, over)

    def frame(self, state: Any) -> np.ndarray:
        """A picture of the grid, uint8 ``[height, width, 3]``."""
        import navix

        return np.asarray(navix.observations.rgb(state[0].replace(cache=self._sprites)))


def _space(obs: Any, kind: str) -> Any:
    if kind.startswith("symbolic"):
        return MultiDiscrete(np.broadcast_to(np.array(SIZES), obs.shape), jnp.uint8)
    if kind.startswith("categorical"):
        return MultiDiscrete(np.full(obs.shape, SIZES[0]), obs.dtype)
    return Box(0, 255, obs.shape, obs.dtype)


def make(env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Navix:
    """The environment of an id."""
    check_id("navix", env_id, ids())
    return Navix(env_id, env_params, env_kwargs)


def ids() -> list[str]:
    """All registered ids."""
    import navix

    return list(navix.registry())


SUITE = Suite("navix", "navix", make, ids, "ppg-jax[navix]")
