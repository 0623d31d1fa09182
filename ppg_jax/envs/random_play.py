"""Random play: what an environment's observations are like before anything is learnt."""

import functools
from typing import Any, NamedTuple

import chex
import jax

from ppg_jax.envs.base import Batch
from ppg_jax.envs.spaces import random_action
from ppg_jax.envs.vector import reset_envs, step_envs
from ppg_jax.types import EnvsState


class RandomPlay(NamedTuple):
    """T steps of B environments with random actions.

    Attributes:
      before: environments before the first step.
      after: environments after the last step.
      obs: observations before each step, ``[T, B, ...]``.
      actions: ``[T, B, ...]``.
      keys: keys of ``step_envs``, ``[T]``.
    """

    before: EnvsState
    after: EnvsState
    obs: Any
    actions: chex.Array
    keys: chex.PRNGKey


def play_randomly(envs: Batch, key: chex.PRNGKey, num_envs: int, num_steps: int) -> RandomPlay:
    """Begins B episodes and takes T random legal steps in each environment."""
    reset_key, play_key = jax.random.split(key)

    def step(now: EnvsState, key: chex.PRNGKey) -> tuple[EnvsState, Any]:
        action_key, env_key = jax.random.split(key)
        action_keys = jax.random.split(action_key, num_envs)
        draw = functools.partial(random_action, envs.action)
        actions = jax.vmap(draw)(action_keys, now.obs)
        return step_envs(envs, env_key, now, actions)[0], (now.obs, actions, env_key)

    before = reset_envs(envs, reset_key, num_envs)
    after, played = jax.lax.scan(step, before, jax.random.split(play_key, num_steps))
    return RandomPlay(before, after, *played)
