"""The static part of a training. It is made once, outside of traced functions."""

import dataclasses
import functools
from typing import Any

from ppg_jax.algorithm.aux_storage import (
    UNPACKED,
    AuxStorage,
    Packing,
    check_replays,
    difference_of_replay,
    find_packing,
    make_storage,
)
from ppg_jax.backend import PLAIN, Backend, this_backend
from ppg_jax.config import (
    Config,
    ConfigError,
    check_config,
    same_environment,
)
from ppg_jax.envs import AnyEnvironment, Batch, Parallel, as_batch, make_training_env
from ppg_jax.functional import ALONE, Pool, in_32_bits
from ppg_jax.networks import Agent, make_agent


@dataclasses.dataclass(frozen=True, eq=False)
class PPG:
    """A configuration, its environment and its networks. Frozen, and hashed by identity.

    Attributes:
      config: sizes, epochs and options.
      env: one environment that is stepped purely, or a batch of them.
      agent: the networks of ``config.arch``.
      backend: how its programs are built.
      packing: how observations are packed.
      pool: the groups of environments that learn together.
    """

    config: Config
    env: AnyEnvironment
    agent: Agent
    backend: Backend = PLAIN
    packing: Packing = UNPACKED
    pool: Pool = ALONE

    @functools.cached_property
    def envs(self) -> Batch:
        """Many environments that are stepped together, for ``envs.take_step`` and its like."""
        return as_batch(self.env, resets_some=self.backend.resets_some)

    @functools.cached_property
    def storage(self) -> AuxStorage:
        """How the auxiliary phase's data is kept."""
        envs = self.envs if self.config.aux_storage == "replay" else None
        return make_storage(self.config, envs, self.agent, self.packing)


def build(config: Config, backend: Backend | None = None) -> PPG:
    """Makes the environment and the networks of a configuration, once for each configuration.

    Args:
      config: what to train.
      backend: how its programs are built; None: as for the device that JAX computes on.

    Raises:
      ConfigError: they do not exist or do not fit each other.
    """
    check_config(config)
    return _build(config, backend or this_backend(), same_environment(config))


@functools.lru_cache(maxsize=64)
def _build(config: Config, backend: Backend, same: Any) -> PPG:
    if config.groups > 1:  # the order of components would be another one in each group
        backend = dataclasses.replace(backend, skip_zeros=False)
    with in_32_bits():  # training is traced in 32 bits too
        env = make_training_env(config)
        agent = make_agent(config, env.observation, env.action, backend)
        packing = UNPACKED
        if config.aux_storage == "packed":
            packing = _packing(_played(config), backend, same)
        if backend.flat_storage:
            packing = packing.flattened(env.observation)
        ppg = PPG(config, env, agent, backend, packing)
        if config.groups > 1 and not isinstance(ppg.envs, Parallel):
            raise ConfigError(
                f"env_groups: {config.groups} cannot be used with {env.name}, whose environments "
                "are stepped together; use 1, and devices_per_seed 1"
            )
        if config.aux_storage == "replay":
            check_replays(env, ppg.envs)
        return ppg


def replay_difference(config: Config, backend: Backend | None = None) -> float:
    """How far the observations of a replay are from those that were seen first.

    Args:
      config: what to train; ``aux_storage`` does not matter.
      backend: as in ``build``.

    Returns:
      The largest absolute difference in random play; 0 if ``aux_storage: replay`` is exact.

    Raises:
      ConfigError: the environments cannot be stepped again.
    """
    check_config(config)
    return _difference(_played(config), backend or this_backend(), same_environment(config))


def _played(config: Config) -> Config:
    """The configuration without what random play does not depend on.

    A run builds several configurations of the same environment; it is played only once.
    """
    other = {"network": {}, "burn_in": 0, "bptt_steps": None, "aux_storage": "full"}
    runs = {"strategy": "auto", "chunk_size": None, "devices": None, "seed": 0, "seeds": 1}
    runs |= {"env_groups": None, "devices_per_seed": None}
    return config.replace(observation_scale=None, hparams={}, **other, **runs)


@functools.lru_cache(maxsize=16)
def _packing(played: Config, backend: Backend, _: Any) -> Packing:
    env = make_training_env(played)
    return find_packing(env, as_batch(env, resets_some=backend.resets_some))


@functools.lru_cache(maxsize=16)
def _difference(played: Config, backend: Backend, _: Any) -> float:
    env = make_training_env(played)
    envs = as_batch(env, resets_some=backend.resets_some)
    check_replays(env, envs)
    assert isinstance(envs, Parallel)
    with in_32_bits():
        return difference_of_replay(played, envs)
