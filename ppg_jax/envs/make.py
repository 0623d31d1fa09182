"""Builds the environment of a configuration, with its wrappers."""

from collections.abc import Mapping
from typing import Any

import jax

from ppg_jax.config import OBJECT, Config, ConfigError, FrozenMapping, import_object, reason
from ppg_jax.envs.adapter import Adapter, check_lossless
from ppg_jax.envs.base import AnyEnvironment, Environment
from ppg_jax.envs.batch import BatchAdapter
from ppg_jax.envs.conversion import Conversion
from ppg_jax.envs.registry import make_of_suite
from ppg_jax.envs.suite import SuiteBatch, SuiteEnvironment
from ppg_jax.envs.suites import gymnax
from ppg_jax.envs.wrappers.levels import Levels
from ppg_jax.envs.wrappers.partial_observation import PartlyObserved
from ppg_jax.envs.wrappers.tasks import Tasks


def make_training_env(config: Config) -> AnyEnvironment:
    """The environment of a configuration, with all wrappers that the configuration asks for.

    Raises:
      ConfigError: the environment does not exist, or a wrapper does not fit it.
    """
    env = make_env(
        config.env,
        config.env_params,
        config.env_kwargs,
        observation_dtype=config.observation_dtype,
        observation_scale=config.observation_scale,
        observation_key=config.observation_key,
        value_observation_key=config.value_observation_key,
        scale_actions=config.scale_actions,
        squash_actions=config.policy_distribution.startswith("tanh"),
    )
    return _wrapped_batch(config, env) if isinstance(env, BatchAdapter) else _wrapped(config, env)


def _wrapped(config: Config, env: Environment) -> Environment:
    if config.hide_components or config.drop_observations:
        env = PartlyObserved(env, config.hide_components, config.drop_observations)
    if config.episodes_per_task is not None:
        env = Tasks(env, config.episodes_per_task)
    if config.num_levels is not None:
        env = Levels(env, config.num_levels, config.first_level)
    return env


def _wrapped_batch(config: Config, env: BatchAdapter) -> BatchAdapter:
    for field in ("hide_components", "drop_observations", "episodes_per_task"):
        if getattr(config, field):
            raise ConfigError(
                f"{field}: {getattr(config, field)!r} cannot be used with {env.name}, whose "
                "environments are stepped together; leave it out"
            )
    if config.num_levels is not None:
        return env.with_levels(config.num_levels, config.first_level)
    return env


def make_env(
    env: Any,
    env_params: Mapping[str, Any] = FrozenMapping(),
    env_kwargs: Mapping[str, Any] = FrozenMapping(),
    **conversion: Any,
) -> Adapter | BatchAdapter:
    """An environment from an id, the import path of a class, or an object.

    Args:
      env: id of gymnax, ``suite/Id``, ``package.module:Class``, or an object. Classes and objects
        are a ``SuiteEnvironment`` or ``SuiteBatch``, or have gymnax's interface
        (``GymnaxEnvironment``).
      env_params: changes to the default parameters, by name.
      env_kwargs: arguments of the constructor; not allowed with an object.
      conversion: fields of ``Conversion``.

    Raises:
      ConfigError: the id or a name is unknown, or a space is not supported.
    """
    how = Conversion(**conversion)
    # This may run inside a trace. Constants made there would be tracers, and the cache of ``build``
    # would keep them after the trace has ended.
    with jax.ensure_compile_time_eval():
        try:
            raw = _find(env, env_params, env_kwargs)
            if isinstance(raw, SuiteBatch):
                return BatchAdapter(raw, how)
            made = Adapter(raw, how)
            if how.observation_dtype in ("bool", "uint8"):
                check_lossless(raw, made, how)
        except ConfigError:
            raise
        except Exception as error:  # a user's environment can raise anything
            name = env if isinstance(env, str) else type(env).__name__
            raise ConfigError(
                f"env: {name} cannot be reset and stepped: {reason(error)}"
            ) from error
    return made


def _find(
    env: Any, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> SuiteEnvironment | SuiteBatch:
    if not isinstance(env, str):
        if env_kwargs:
            raise ConfigError("env_kwargs: cannot be used with an environment object; leave it out")
        return _of_object(env, env_params)
    if env.startswith(OBJECT):
        raise ConfigError(
            f"env: this run's environment was an object ({env[len(OBJECT) : -1]}), which a file "
            "cannot store; from Python pass it as env=... to load_run, resume or load_config"
        )
    if ":" in env:
        return _of_object(_imported(env, env_kwargs), env_params)
    if "/" in env:
        made: SuiteEnvironment | SuiteBatch = make_of_suite(env, env_params, env_kwargs)
        return made
    return gymnax.make(env, env_params, env_kwargs)


def _of_object(env: Any, env_params: Mapping[str, Any]) -> SuiteEnvironment | SuiteBatch:
    if not isinstance(env, SuiteEnvironment | SuiteBatch):
        return gymnax.wrap(env, env_params)
    if env_params:
        raise ConfigError(
            f"env_params: cannot be used with {env.name}, which is made from env_kwargs alone; "
            "leave it out"
        )
    return env


def _imported(place: str, env_kwargs: Mapping[str, Any]) -> Any:
    """Makes an environment of the class ``package.module:Class``.

    Raises:
      ConfigError: there is no such class, it is not an environment, or its constructor fails.
    """
    found = import_object("env", place)
    methods = [getattr(found, method, None) for method in ("step_env", "reset_env")]
    fits = isinstance(found, type) and issubclass(found, SuiteEnvironment | SuiteBatch)
    if not isinstance(found, type) or not (fits or all(map(callable, methods))):
        raise ConfigError(
            f"env: {place!r} is not an environment; it should be a class with step_env and "
            "reset_env, a SuiteEnvironment or a SuiteBatch"
        )
    try:
        return found(**env_kwargs)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"env: {place!r} cannot be made with env_kwargs {dict(env_kwargs)}: {reason(error)}"
        ) from None
