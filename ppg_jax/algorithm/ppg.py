"""The static part of a training. It is made once, outside of traced functions."""

import dataclasses
import functools
from typing import Any

from ppg_jax.config import Config, check_config, same_environment
from ppg_jax.envs import AnyEnvironment, make_training_env
from ppg_jax.functional import in_32_bits
from ppg_jax.networks import Agent, make_agent


@dataclasses.dataclass(frozen=True, eq=False)
class PPG:
    """A configuration, its environment and its networks. Frozen, and hashed by identity.

    Attributes:
      config: sizes, epochs and options.
      env: one environment that is stepped purely, or a batch of them.
      agent: the networks of ``config.arch``.
    """

    config: Config
    env: AnyEnvironment
    agent: Agent


def build(config: Config) -> PPG:
    """Makes the environment and the networks of a configuration, once for each configuration.

    Raises:
      ConfigError: they do not exist or do not fit each other.
    """
    check_config(config)
    return _build(config, same_environment(config))


@functools.lru_cache(maxsize=64)
def _build(config: Config, _: Any) -> PPG:
    with in_32_bits():  # training is traced in 32 bits too
        env = make_training_env(config)
        return PPG(config, env, make_agent(config, env.observation, env.action))
