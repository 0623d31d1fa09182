"""Pgx (Koyamada et al. 2023, arXiv:2303.17503): games for a single player."""

import inspect
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.spaces import Box, Discrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    TIME_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_names,
    take_time_limit,
)

MASK = "action_mask"
TIMER = "_terminate_timer"
"""State field in which Freeway counts its steps down."""
FREEWAY_STEPS = 2501
SINGLE_PLAYER = (
    "2048",
    "minatar-asterix",
    "minatar-breakout",
    "minatar-freeway",
    "minatar-seaquest",
    "minatar-space_invaders",
)
"""Games for one player. All others need an opponent."""
FRAME_PIXELS = 240
"""Side of a picture."""


class Pgx(SuiteEnvironment):
    """A game of Pgx.

    Only Freeway has a time limit. The suite reports it as the end of the game; here it is switched
    off, and the adapter truncates instead.
    """

    mask_key = MASK

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        import pgx

        kind = type(pgx.make(env_id))
        check_names("env_kwargs", env_kwargs, inspect.signature(kind).parameters, env_id)
        try:
            self._env = kind(**env_kwargs)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"env_kwargs: {dict(env_kwargs)} is invalid for {env_id}: {error}"
            ) from None
        self.name = f"{env_id}-pgx"
        first = jax.eval_shape(self._env.init, jax.random.key(0))
        self._timed = hasattr(first, TIMER)
        self.max_episode_steps, rest = take_time_limit(
            env_params, FREEWAY_STEPS if self._timed else None
        )
        check_names("env_params", rest, (TIME_LIMIT,), env_id)
        seen = first.observation
        self.observation_space = Box(0, 1, seen.shape, seen.dtype)
        self.action_space = Discrete(self._env.num_actions)

    def _split(self, state: Any) -> tuple[dict[str, Any], Any]:
        """The observation, and the state without it, from which the suite computes it anyway."""
        if self._timed:
            state = state.replace(**{TIMER: jnp.full_like(getattr(state, TIMER), NO_LIMIT)})
        obs = {"observation": state.observation, MASK: state.legal_action_mask}
        return obs, state.replace(observation=None)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        return self._split(self._env.init(key))

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step."""
        after = self._env.step(state, action, key)
        obs, state = self._split(after)
        return SuiteStep(obs, state, after.rewards[0], after.terminated, after.truncated)

    def frame(self, state: Any) -> np.ndarray:
        """A picture of the planes of the observation, uint8 ``[height, width, 3]``.

        Pgx itself draws vector graphics only.
        """
        import matplotlib

        planes = np.asarray(self._env.observe(state))
        colors = matplotlib.colormaps["turbo"](np.linspace(0.1, 1, planes.shape[-1]))[:, :3]
        cells = np.zeros((*planes.shape[:2], 3))
        for plane, color in zip(np.moveaxis(planes, -1, 0), colors, strict=True):
            cells[plane] = color
        scale = FRAME_PIXELS // len(cells)
        return np.uint8(255 * cells).repeat(scale, 0).repeat(scale, 1)


def ids() -> list[str]:
    """Ids of all games for one player."""
    return list(SINGLE_PLAYER)


def refused() -> dict[str, str]:
    """All other games."""
    import pgx

    others = set(pgx.available_envs()) - set(SINGLE_PLAYER)
    why = f"it is a game for several players; use {', '.join(SINGLE_PLAYER)}"
    return dict.fromkeys(others, why)


SUITE = Suite("pgx", "pgx", Pgx, ids, "ppg-jax[pgx]", refused)
