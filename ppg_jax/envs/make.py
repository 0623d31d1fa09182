"""Builds the environment of a configuration, with its wrappers."""

from ppg_jax.config import Config
from ppg_jax.envs.base import Environment
from ppg_jax.envs.suites.gymnax import make_env
from ppg_jax.envs.wrappers.levels import Levels
from ppg_jax.envs.wrappers.partial_observation import PartlyObserved
from ppg_jax.envs.wrappers.tasks import Tasks


def make_training_env(config: Config) -> Environment:
    """The environment of a configuration, with all wrappers that the configuration asks for.

    Raises:
      ConfigError: the environment does not exist, or a wrapper does not fit it.
    """
    env: Environment = make_env(
        config.env,
        config.env_params,
        config.env_kwargs,
        config.observation_dtype,
        config.observation_scale,
        config.scale_actions,
    )
    if config.hide_components or config.drop_observations:
        env = PartlyObserved(env, config.hide_components, config.drop_observations)
    if config.episodes_per_task is not None:
        env = Tasks(env, config.episodes_per_task)
    if config.num_levels is not None:
        env = Levels(env, config.num_levels, config.first_level)
    return env
