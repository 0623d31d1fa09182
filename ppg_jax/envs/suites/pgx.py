"""Pgx (Koyamada et al. 2023, arXiv:2303.17503): games for a single player."""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.spaces import Box, Discrete
from ppg_jax.envs.suite import (
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_id,
    check_names,
    take_time_limit,
)

MASK = "action_mask"
SINGLE_PLAYER = (
    "2048",
    "minatar-asterix",
    "minatar-breakout",
    "minatar-freeway",
    "minatar-seaquest",
    "minatar-space_invaders",
)
"""Games for one player. All others need an opponent."""
SCALE = 24
"""Pixels of a cell's side in a picture."""


class Pgx(SuiteEnvironment):
    """A game of Pgx. It has no time limit of its own."""

    mask_key = MASK

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        import pgx

        try:
            self._env = pgx.make(env_id, **env_kwargs)
        except TypeError as error:
            raise ConfigError(
                f"env_kwargs: {dict(env_kwargs)} is invalid for {env_id}: {error}"
            ) from None
        self.name = f"{env_id}-pgx"
        self.max_episode_steps, rest = take_time_limit(env_params, None)
        check_names("env_params", rest, ("max_steps_in_episode",), env_id)
        seen = jax.eval_shape(self._env.init, jax.random.key(0)).observation
        self.observation_space = Box(0, 1, seen.shape, seen.dtype)
        self.action_space = Discrete(self._env.num_actions)

    def _obs(self, state: Any) -> dict[str, Any]:
        return {"observation": state.observation, MASK: state.legal_action_mask}

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        state = self._env.init(key)
        return self._obs(state), state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step."""
        state = self._env.step(state, action, key)
        return SuiteStep(
            self._obs(state), state, state.rewards[0], state.terminated, state.truncated
        )

    def frame(self, state: Any) -> np.ndarray:
        """A picture of the planes of the observation, uint8 ``[height, width, 3]``.

        Pgx itself draws vector graphics only.
        """
        import matplotlib

        planes = np.asarray(state.observation)
        colors = matplotlib.colormaps["turbo"](np.linspace(0.1, 1, planes.shape[-1]))[:, :3]
        cells = np.zeros((*planes.shape[:2], 3))
        for plane, color in zip(np.moveaxis(planes, -1, 0), colors, strict=True):
            cells[plane] = color
        return np.uint8(255 * cells).repeat(SCALE, 0).repeat(SCALE, 1)


def make(env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Pgx:
    """The game of an id."""
    import pgx

    if env_id in pgx.available_envs() and env_id not in SINGLE_PLAYER:
        raise ConfigError(
            f"env: pgx/{env_id} is a game for several players, which are not supported; use "
            f"{', '.join(SINGLE_PLAYER)}"
        )
    check_id("pgx", env_id, SINGLE_PLAYER)
    return Pgx(env_id, env_params, env_kwargs)


def ids() -> list[str]:
    """Ids of all games for one player."""
    return list(SINGLE_PLAYER)


SUITE = Suite("pgx", "pgx", make, ids, "ppg-jax[pgx]")
