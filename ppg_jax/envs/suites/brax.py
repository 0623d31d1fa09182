"""Brax: robots and pendulums, simulated by four physics engines (``env_kwargs: {backend: ...}``).

The environments have no time limit of their own; Brax's wrapper cuts episodes after 1,000 steps.
The model of the robot stays in the environment, and the states hold only what changes.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.mujoco import DrawnByMujoco, quiet_model, quiet_trace
from ppg_jax.envs.spaces import Box
from ppg_jax.envs.suite import (
    TIME_LIMIT,
    Suite,
    SuiteStep,
    check_names,
    take_time_limit,
)

EPISODE_LENGTH = 1000
"""Time limit of Brax's ``EpisodeWrapper`` in ``brax.envs.create``."""
BACKENDS = ("generalized", "mjx", "positional", "spring")
"""Physics engines. ``swimmer`` knows only the first."""
FOR_TESTS = ("fast",)
"""An environment in which nothing happens."""


def ids() -> list[str]:
    """Names of Brax's environments."""
    return sorted(name for name in _classes() if name not in FOR_TESTS)


def make(
    env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> "BraxEnvironment":
    """An environment of Brax.

    Raises:
      ConfigError: a name or the backend is unknown.
    """
    limit, rest = take_time_limit(env_params, EPISODE_LENGTH)
    check_names("env_params", rest, [TIME_LIMIT], f"brax/{env_id}")
    cls = _classes()[env_id]
    check_names("env_kwargs", env_kwargs, _arguments(cls), f"brax/{env_id}")
    backend = env_kwargs.get("backend")
    fit = BACKENDS[:1] if env_id == "swimmer" else BACKENDS
    if backend is not None and backend not in fit:
        raise ConfigError(
            f"env_kwargs.backend: {backend!r} is invalid for brax/{env_id}; use {', '.join(fit)}"
        )
    with quiet_model():
        return BraxEnvironment(env_id, cls(**env_kwargs), limit)


def _classes() -> dict[str, Any]:
    """Brax's registry, which has no public way to read it."""
    from brax import envs

    return dict(envs._envs)


def _arguments(cls: Any) -> list[str]:
    """Arguments of a constructor: its own, and what it passes on to Brax's base class."""
    names = [*inspect.signature(cls.__init__).parameters, "backend", "n_frames"]
    return sorted({name for name in names if name not in ("self", "kwargs")})


class BraxEnvironment(DrawnByMujoco):
    """An environment of Brax. Its actions are -1 to 1, which Brax scales to the motors itself."""

    def __init__(self, env_id: str, env: Any, limit: int | None) -> None:
        self.env, self.name, self.max_episode_steps = env, f"brax/{env_id}", limit
        self.action_space = Box(-1.0, 1.0, (env.action_size,))
        obs, _ = jax.eval_shape(self.reset, jax.random.key(0))
        self.observation_space = Box(-np.inf, np.inf, obs.shape)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        with quiet_trace():
            state = self.env.reset(key)
        return state.obs, state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. If the episode ended, nothing is reset."""
        copied = jax.tree.map(lambda x: x, state)  # Brax writes into the dicts of a state
        with quiet_trace():
            after = self.env.step(copied, action)
        # Some rewards and ends are Python numbers.
        return SuiteStep(after.obs, after, after.reward, jnp.asarray(after.done) > 0)

    def model(self) -> Any:
        """The ``MjModel`` to draw."""
        return self.env.sys.mj_model

    def pose(self, state: Any) -> tuple[Any, ...]:
        """The positions in a state."""
        return (state.pipeline_state.q,)


SUITE = Suite("brax", "brax", make, ids, "ppg-jax[brax]")
