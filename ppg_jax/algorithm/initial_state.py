"""The training state before the first step."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.checks import check_key, traced_in_32_bits
from ppg_jax.algorithm.groups import Groups
from ppg_jax.algorithm.optimizer import init_optimizer
from ppg_jax.algorithm.ppg import PPG, build
from ppg_jax.backend import Backend
from ppg_jax.config import Config
from ppg_jax.envs import close_envs, play_randomly, reset_envs
from ppg_jax.functional import init_stats
from ppg_jax.types import EnvsState, RewardScaler, TrainState

_RESTART = 0x4E57
"""Number folded into the keys of ``restart_envs``, so that no other draw uses these keys."""


@traced_in_32_bits
def init(
    config: Config,
    key: chex.PRNGKey,
    *,
    backend: Backend | None = None,
    env_axis: str | None = None,
) -> TrainState:
    """The training state before the first step.

    Args:
      config: what to train.
      key: source of all randomness in the run.
      backend: how the program is built; None: as for the device that JAX computes on.
      env_axis: name of the mesh axis over which the groups of environments are spread; None: all
        are here.

    Returns:
      The state; with ``env_axis`` it has only the environments of this device.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    check_key(key)
    ppg = build(config, backend)
    params_key, env_key, run_key, stats_key = jax.random.split(key, 4)
    params = ppg.agent.init(params_key)
    envs, stats = _begin(ppg, env_key, stats_key, env_axis)
    num_envs = len(envs.starts)
    names = ["policy"] + ["value"] * (config.e_pi != config.e_v) + ["aux"] * (config.e_aux > 0)
    scaler = RewardScaler(stats=init_stats(), sums=jnp.zeros(num_envs, jnp.float32))
    return TrainState(
        params=params,
        opt_states={name: init_optimizer(params) for name in names},
        envs=envs,
        memory=ppg.agent.initial_memory(num_envs),
        reward_scaler=scaler if config.normalize_rewards else None,
        obs_stats=stats,
        seen_obs_stats=stats,
        key=run_key,
        iteration=jnp.int32(0),
        beta_scale=jnp.float32(1.0) if config.adapt_beta_clone else None,
    )


@traced_in_32_bits
def restart_envs(
    config: Config, state: TrainState, *, backend: Backend | None = None
) -> TrainState:
    """The state with new episodes, for environments whose states cannot be restored.

    The random key of the resets depends on the state's key and iteration only.

    Args:
      config: what to train.
      state: a training state between two phases.
      backend: as in ``init``.
    """
    ppg = build(config, backend)
    key = jax.random.fold_in(jax.random.fold_in(state.key, _RESTART), state.iteration)
    envs = reset_envs(ppg.envs, key, config.num_envs, ppg.agent.network.recall)
    return state.replace(envs=envs)


def _begin(
    ppg: PPG, env_key: chex.PRNGKey, stats_key: chex.PRNGKey, env_axis: str | None
) -> tuple[EnvsState, Any]:
    """The environments on this device, and statistics of observations, or None."""

    def begin(ppg: PPG, env_key: chex.PRNGKey, stats_key: chex.PRNGKey) -> tuple[EnvsState, Any]:
        num_envs, recall = ppg.config.num_envs, ppg.agent.network.recall
        stats = _random_obs_stats(ppg, stats_key) if ppg.config.normalize_observations else None
        return reset_envs(ppg.envs, env_key, num_envs, recall), stats

    if ppg.config.groups == 1:
        return begin(ppg, env_key, stats_key)
    groups = Groups.of(ppg, env_axis)
    one = groups.map(functools.partial(begin, groups.ppg), (0, 0), (0, None))
    envs, stats = one(groups.keys(env_key), groups.keys(stats_key))
    return groups.join(envs), stats


def _random_obs_stats(ppg: PPG, key: chex.PRNGKey) -> Any:
    """Statistics of a rollout with random actions, in separate environments.

    Without them the first phase's policy would see raw observations, cut to [-10, 10].
    """
    played = play_randomly(ppg.envs, key, ppg.config.num_envs, ppg.config.num_steps)
    close_envs(ppg.envs, played.after)
    return ppg.agent.update_stats(ppg.agent.initial_stats(), played.obs, ppg.pool)
