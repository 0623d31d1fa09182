"""The static part of a training. It is made once, outside of traced functions."""

import dataclasses
import functools
from typing import Any

from ppg_jax.backend import Backend, this_backend
from ppg_jax.config import Config, check_config, same_environment
from ppg_jax.envs import AnyEnvironment, Batch, as_batch, make_training_env
from ppg_jax.functional import in_32_bits
from ppg_jax.networks import Agent, make_agent


@dataclasses.dataclass(frozen=True, eq=False)
class PPG:
    """A configuration, its environment and its networks. Frozen, and hashed by identity.

    Attributes:
      config: sizes, epochs and options.
      env: one environment that is stepped purely, or a batch of them.
      agent: the networks of ``config.arch``.
      backend: how its programs are built.
    """

    config: Config
    env: AnyEnvironment
    agent: Agent
    backend: Backend

    @functools.cached_property
    def envs(self) -> Batch:
        """Many environments that are stepped together, for ``envs.take_step`` and its like."""
        return as_batch(self.env, resets_some=self.backend.resets_some)


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
def _build(config: Config, backend: Backend, _: Any) -> PPG:
    with in_32_bits():  # training is traced in 32 bits too
        env = make_training_env(config)
        agent = make_agent(config, env.observation, env.action, backend)
        return PPG(config, env, agent, backend)
