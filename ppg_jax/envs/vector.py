"""B environments side by side: stepping, resetting where an episode ended, counting returns."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ppg_jax.envs.base import Environment
from ppg_jax.prng import fast_key
from ppg_jax.types import EnvsState, EpisodeStats


class VectorStep(NamedTuple):
    """One step of B environments.

    Attributes:
      final_obs: real successor observations, ``[B, ...]``.
      rewards: raw, float32 ``[B]``.
      terminated: bool ``[B]``.
      truncated: bool ``[B]``.
      episodes: of the episodes that ended at this step.
    """

    final_obs: chex.Array
    rewards: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    episodes: EpisodeStats


def reset_envs(env: Environment, key: chex.PRNGKey, num_envs: int) -> EnvsState:
    """``num_envs`` fresh episodes."""
    obs, state = jax.vmap(env.reset)(jax.random.split(fast_key(key), num_envs))
    return EnvsState(
        env=state,
        obs=obs,
        starts=jnp.ones(num_envs, jnp.bool_),
        returns=jnp.zeros(num_envs, jnp.float32),
        lengths=jnp.zeros(num_envs, jnp.int32),
    )


def step_envs(
    env: Environment, key: chex.PRNGKey, envs: EnvsState, actions: chex.Array
) -> tuple[EnvsState, VectorStep]:
    """Steps every environment and begins a new episode where one ended.

    Args:
      env: the environment.
      key: random key of this step.
      envs: B environments.
      actions: the policy's, ``[B, ...]``.

    Returns:
      The environments after the step, and what the step gave.
    """
    step_keys, reset_keys = jax.random.split(fast_key(key), (2, envs.starts.shape[0]))
    result = jax.vmap(env.step)(step_keys, envs.env, actions)
    done = result.terminated | result.truncated
    fresh_obs, fresh_state = jax.vmap(env.reset)(reset_keys)

    def where_done(fresh: chex.Array, stepped: chex.Array) -> chex.Array:
        return jnp.where(done.reshape(done.shape + (1,) * (fresh.ndim - 1)), fresh, stepped)

    returns, lengths = envs.returns + result.reward, envs.lengths + 1
    episodes = EpisodeStats(
        count=done.sum(dtype=jnp.int32),
        return_sum=jnp.where(done, returns, 0.0).sum(),
        length_sum=jnp.where(done, lengths, 0).sum(dtype=jnp.int32),
    )
    envs = EnvsState(
        env=jax.tree.map(where_done, fresh_state, result.state),
        obs=where_done(fresh_obs, result.obs),
        starts=done,
        returns=jnp.where(done, 0.0, returns),
        lengths=jnp.where(done, 0, lengths),
    )
    step = VectorStep(result.obs, result.reward, result.terminated, result.truncated, episodes)
    return envs, step
