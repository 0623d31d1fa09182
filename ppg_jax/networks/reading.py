"""Observations as the encoders read them: unpacked, scaled or standardised, one-hot."""

from typing import Any

import chex
import jax.numpy as jnp

from ppg_jax.config import NetworkConfig
from ppg_jax.functional import (
    ALONE,
    Pool,
    RunningStats,
    init_stats,
    one_hot,
    standardize,
    unpack_all,
)
from ppg_jax.functional import update_stats as update
from ppg_jax.networks.own_module import is_own
from ppg_jax.networks.resolve import turned
from ppg_jax.types import Observation, ObservationSpec


def part_of(obs: Any, value: bool) -> Any:
    """The part of an observation, or of its statistics, for the policy or the value network."""
    if not isinstance(obs, Observation):
        return obs
    return obs.value if value and obs.value is not None else obs.policy


def read(
    network: NetworkConfig, spec: ObservationSpec, obs: Any, stats: RunningStats | None
) -> chex.Array:
    """Observations as an encoder takes them: float32, scaled or standardised; categories one-hot.

    Args:
      network: configuration of the network.
      spec: what the observations are.
      obs: stored observations, ``[..., *spec.shape]``, also packed.
      stats: statistics that standardise them, or None.
    """
    obs = unpack_all(obs)
    if spec.categories is not None:
        if is_own(network.encoder):
            return obs.astype(jnp.int32)
        return one_hot(obs, spec.categories, spec.shape)
    if stats is not None:
        x = standardize(stats, obs)
    else:
        x = obs.astype(jnp.float32)
        x = x if spec.scale == 1.0 else x * (1.0 / spec.scale)
    return jnp.moveaxis(x, -3, -1) if turned(network, spec) else x


def initial_stats(spec: ObservationSpec) -> Any:
    """Statistics of observations before any data; for both parts if the networks read others."""
    stats = init_stats(spec.shape)
    return stats if spec.value is None else Observation(stats, init_stats(spec.value.shape))


def update_stats(spec: ObservationSpec, stats: Any, obs: Any, pool: Pool = ALONE) -> Any:
    """Merges observations ``[..., *shape]`` of all groups of ``pool`` into the statistics."""
    obs = unpack_all(obs)
    policy = part_of(obs, value=False)
    if spec.value is None:
        return update(stats, policy, pool)
    value = part_of(obs, value=True)
    parts = (stats.policy, policy), (stats.value, value)
    return Observation(*(update(*part, pool) for part in parts))
