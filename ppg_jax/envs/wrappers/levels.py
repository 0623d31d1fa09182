"""Levels: a fixed set of initial conditions, so that other levels can be used for tests."""

from typing import Any

import chex
import jax

from ppg_jax.envs.base import Environment
from ppg_jax.envs.wrappers.base import Wrapper

_ROOT = 0x1E7E1
"""Seed of all levels. It is fixed, so that a level is the same in every run."""


class Levels(Wrapper):
    """Resets to a random level from ``first_level`` to ``first_level + num_levels - 1``.

    A level is a reset key: it fixes the randomness of the reset, but not that of the steps.
    Training on some levels and evaluating on others measures generalisation, as in Procgen (Cobbe
    et al. 2020, arXiv:1912.01588).

    Args:
      env: environment to wrap.
      num_levels: number of levels.
      first_level: number of the first level.
    """

    def __init__(self, env: Environment, num_levels: int, first_level: int) -> None:
        super().__init__(env)
        self._num_levels, self._first_level = num_levels, first_level

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """Begins an episode of a random level and returns ``(obs, state)``."""
        level = self._first_level + jax.random.randint(key, (), 0, self._num_levels)
        return self._env.reset(jax.random.fold_in(jax.random.key(_ROOT), level))
