"""Episodes that begin in one of a fixed set of ways, so that others can be held out."""

from typing import Any

import chex
import jax

from ppg_jax.envs.base import Environment
from ppg_jax.envs.wrappers.base import Wrapper

_ROOT = 0x1E7E1
"""Seed that all levels hang from: a level's number means the same in every run."""


class Levels(Wrapper):
    """An environment whose resets draw from levels ``first_level`` to ``first + num_levels - 1``.

    A level is a reset key. It decides all that a reset decides; what happens by chance in a step
    stays free. Training on some levels and playing others measures generalisation, as in Procgen
    (Cobbe et al. 2020, arXiv:1912.01588).
    """

    def __init__(self, env: Environment, num_levels: int, first_level: int) -> None:
        super().__init__(env)
        self._num_levels, self._first_level = num_levels, first_level

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """A fresh episode of one of the levels: ``(obs, state)``."""
        level = self._first_level + jax.random.randint(key, (), 0, self._num_levels)
        return self._env.reset(jax.random.fold_in(jax.random.key(_ROOT), level))
