"""gymnax environments (built-in, registered, or passed as objects) as ``Environment``."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import OBJECT, ConfigError, FrozenMapping, did_you_mean
from ppg_jax.envs.base import StepResult
from ppg_jax.envs.observations import read_observation
from ppg_jax.envs.spaces import random_action, read_action_space
from ppg_jax.types import ActionSpec, ObservationSpec

NEEDS_DOWNLOAD = frozenset({"MNISTBandit-bsuite"})
"""gymnax environments that download a data set in their constructor."""

TIME_LIMIT = "max_steps_in_episode"
NO_LIMIT = 2**31 - 1
"""Time limit that stands for no limit: the largest number of steps in 32 bits."""

TASK_FIELDS = {
    "BernoulliBandit-misc": ("reward_probs", "exp_reward_best"),
    "GaussianBandit-misc": ("mu",),
    "FourRooms-misc": ("goal",),
    "MetaMaze-misc": ("goal",),
    "PointRobot-misc": ("goal",),
}
"""State fields that define the task in gymnax's meta-learning environments."""


def available_envs() -> list[str]:
    """Ids for ``Config.env``: gymnax's own, and those added by ``gymnax.register``."""
    # Imported here, because the import runs JAX computations. CPU cores can become JAX devices only
    # before the first computation.
    import gymnax

    return [name for name in gymnax.registered_envs if name not in NEEDS_DOWNLOAD]


def make_env(
    env: Any,
    env_params: Mapping[str, Any] = FrozenMapping(),
    env_kwargs: Mapping[str, Any] = FrozenMapping(),
    observation_dtype: str = "native",
    observation_scale: float | None = None,
    scale_actions: bool = False,
) -> "GymnaxEnv":
    """An environment from an id, the import path of a class, or a gymnax environment object.

    Args:
      env: id from ``available_envs``, ``package.module:Class``, or an object with gymnax 1.x's
        ``step_env``, ``reset_env``, ``action_space`` and ``observation_space``, and
        ``is_truncated`` if it has a time limit.
      env_params: changes to the default parameters, by name.
      env_kwargs: arguments of the constructor; not allowed with an object.
      observation_dtype: dtype of stored observations: ``native``, ``bool`` or ``uint8``.
      observation_scale: divisor of observations in the networks; None: 255 for byte images, else 1.
      scale_actions: scale a continuous policy's -1 to 1 to the full range of bounded dimensions.

    Raises:
      ConfigError: the id or a name is unknown, or a space is not supported.
    """
    # This may run inside a trace. Constants made there would be tracers, and the cache of ``build``
    # would keep them after the trace has ended.
    with jax.ensure_compile_time_eval():
        try:
            raw, params = _find(env, env_kwargs)
            params = _with_params(raw, params, env_params)
            made = GymnaxEnv(
                raw,
                params,
                observation_dtype=observation_dtype,
                observation_scale=observation_scale,
                scale_actions=scale_actions,
            )
            if observation_dtype != "native":
                _check_lossless(raw, params, made.observation.dtype)
        except ConfigError:
            raise
        except Exception as error:  # a user's environment can raise anything
            name = env if isinstance(env, str) else type(env).__name__
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ConfigError(f"env: {name} cannot be reset and stepped: {reason}") from error
    return made


def _find(env: Any, env_kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    import gymnax  # imported here for the same reason as in available_envs

    if not isinstance(env, str):
        if env_kwargs:
            raise ConfigError("env_kwargs: cannot be used with an environment object; leave it out")
        return env, env.default_params
    if env.startswith(OBJECT):
        raise ConfigError(
            f"env: this run's environment was an object ({env[len(OBJECT) : -1]}), which a file "
            "cannot store; from Python pass it as env=... to load_run, resume or load_config"
        )
    if ":" in env:
        made = _imported(env, env_kwargs)
        return made, made.default_params
    if env in NEEDS_DOWNLOAD:
        raise ConfigError(
            f"env: {env} is not supported, because it downloads a data set; use another"
        )
    if env not in gymnax.registered_envs:
        hint = did_you_mean(env, available_envs())
        raise ConfigError(
            f"env: {env!r} is unknown; {hint}ppg-jax list shows all; for your own environment use "
            "package.module:Class, or from Python an object, Config(env=MyEnv())"
        )
    try:
        return gymnax.make(env, **env_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"env_kwargs: {dict(env_kwargs)} is invalid for {env}: {error}") from None


def _imported(place: str, env_kwargs: Mapping[str, Any]) -> Any:
    """Makes an environment of the class ``package.module:Class``.

    Raises:
      ConfigError: there is no such class, it is not an environment, or its constructor fails.
    """
    module, _, name = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(f"env: {place!r} cannot be imported: {reason}") from None
    methods = [getattr(found, method, None) for method in ("step_env", "reset_env")]
    if not isinstance(found, type) or not all(map(callable, methods)):
        raise ConfigError(
            f"env: {place!r} is not an environment; it should be a class with step_env and "
            "reset_env"
        )
    try:
        return found(**env_kwargs)
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(
            f"env: {place!r} cannot be made with env_kwargs {dict(env_kwargs)}: {reason}"
        ) from None


def _with_params(env: Any, params: Any, changes: Mapping[str, Any]) -> Any:
    if not changes:
        return params
    names = [f.name for f in dataclasses.fields(params)] if dataclasses.is_dataclass(params) else []
    arrays = {}
    for name, value in changes.items():
        if name not in names:
            known = f"its parameters are {', '.join(names)}" if names else "it has no parameters"
            raise ConfigError(
                f"env_params.{name}: unknown to {getattr(env, 'name', type(env).__name__)}; "
                f"{did_you_mean(name, names)}{known}"
            )
        if name == TIME_LIMIT:
            arrays[name] = NO_LIMIT if value in (None, "none", "None", "null") else value
            continue
        default = np.asarray(getattr(params, name))
        try:
            given = np.asarray(value)
        except ValueError:  # nested lists of different lengths
            given = np.asarray(None)
        if given.dtype.kind not in "bif" or given.shape != default.shape:
            wanted = f"an array of shape {default.shape}" if default.shape else "a number"
            raise ConfigError(f"env_params.{name}: {value!r} is invalid; it should be {wanted}")
        arrays[name] = jnp.asarray(given, default.dtype) if default.shape else value
    return params.replace(**arrays)


def _with_time_limit(params: Any) -> tuple[Any, int | None]:
    """Parameters with a time limit that fits into 32 bits, and the limit.

    Returns:
      The parameters, and the limit in steps; None: there is no limit.

    Raises:
      ConfigError: the limit is not a number of steps.
    """
    if not hasattr(params, TIME_LIMIT):
        return params, None
    value = getattr(params, TIME_LIMIT)
    if value is None:
        return params.replace(**{TIME_LIMIT: NO_LIMIT}), None
    try:
        steps = float(np.asarray(value))
    except (TypeError, ValueError):
        steps = math.nan
    if not steps >= 1:
        raise ConfigError(
            f"env_params.{TIME_LIMIT}: {value!r} is invalid; it should be at least 1, or none"
        )
    if steps >= NO_LIMIT:
        return params.replace(**{TIME_LIMIT: NO_LIMIT}), None
    return params, math.ceil(steps)


class GymnaxEnv:
    """A gymnax environment without auto-reset, as an ``envs.base.Environment``.

    Some environments return Python numbers from a reset and arrays from a step. States are
    converted to common dtypes, so that a scan can carry them.
    """

    def __init__(
        self,
        env: Any,
        params: Any,
        *,
        observation_dtype: str = "native",
        observation_scale: float | None = None,
        scale_actions: bool = False,
    ) -> None:
        params, limit = _with_time_limit(params)
        self._env, self._params = env, params
        self.name: str = str(getattr(env, "name", type(env).__name__))
        self.max_episode_steps: int | None = limit
        self.given, state = jax.eval_shape(env.reset_env, jax.random.key(0), params)
        self.observation: ObservationSpec
        self.observation, self._store = read_observation(
            env.observation_space(params),
            self.given,
            self.name,
            observation_dtype=observation_dtype,
            observation_scale=observation_scale,
        )
        self.action: ActionSpec
        self.action, self._to_env = read_action_space(
            env.action_space(params), self.name, scale=scale_actions
        )
        stepped = jax.eval_shape(self._raw_step, jax.random.key(0), state)[1]
        self._state = jax.tree.map(_common, state, stepped)
        self._is_truncated = _truncation(env, params)
        self.task_fields = TASK_FIELDS.get(self.name, getattr(env, "task_fields", ()))

    @property
    def unwrapped(self) -> tuple[Any, Any]:
        """The gymnax environment and its parameters."""
        return self._env, self._params

    def inner_state(self, state: Any) -> Any:
        """The state itself, because there is no wrapper."""
        return state

    def to_env(self, action: chex.Array) -> Any:
        """Converts a policy's action to the environment's action space."""
        return self._to_env(action)

    def store(self, obs: Any) -> chex.Array:
        """Converts an observation of the environment to its stored form."""
        return self._store(obs)

    def _raw_step(self, key: chex.PRNGKey, state: Any):
        action = self._to_env(random_action(self.action, key))
        return self._env.step_env(key, state, action, self._params)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        obs, state = self._env.reset_env(key, self._params)
        return self._store(obs), self._settle(state)

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """Begins an episode that keeps the ``task_fields`` of a state; returns ``(obs, state)``."""
        reset_key, obs_key = jax.random.split(key)
        obs, fresh = self._env.reset_env(reset_key, self._params)
        fresh = fresh.replace(**{name: getattr(state, name) for name in self.task_fields})
        if hasattr(self._env, "observe"):  # the task may be part of the observation
            obs = self._env.observe(obs_key, fresh, None, self._params)
        return self._store(obs), self._settle(fresh)

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """Takes one step. If the episode ended, nothing is reset."""
        obs, state, reward, terminated, _ = self._env.step_env(
            key, state, self._to_env(action), self._params
        )
        truncated = self._is_truncated(state, self._params)
        return StepResult(
            obs=self._store(obs),
            state=self._settle(state),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            terminated=jnp.asarray(terminated, jnp.bool_).reshape(()),
            truncated=jnp.asarray(truncated, jnp.bool_).reshape(()),
        )

    def _settle(self, state: Any) -> Any:
        def settle(x: Any, like: jax.ShapeDtypeStruct) -> chex.Array:
            if _is_key(like):
                return x
            return jnp.asarray(x).astype(like.dtype).reshape(like.shape)

        return jax.tree.map(settle, state, self._state)


def _truncation(env: Any, params: Any) -> Callable[[Any, Any], Any]:
    """The function that tells whether a time limit cut an episode; always False without a limit."""
    from gymnax.environments.environment import Environment

    own = getattr(type(env), "is_truncated", None)
    without_limit = own is Environment.is_truncated and not hasattr(params, TIME_LIMIT)
    return (lambda state, params: False) if own is None or without_limit else env.is_truncated


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _common(reset: jax.ShapeDtypeStruct, stepped: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    if _is_key(reset):
        return reset
    return jax.ShapeDtypeStruct(reset.shape, jnp.promote_types(reset.dtype, stepped.dtype))


def _check_lossless(env: Any, params: Any, compact: Any, num_steps: int = 256) -> None:
    """Checks by random actions that a compact dtype does not change the observations.

    The bounds of the space are not enough: they do not tell whether every value is a whole number.

    Raises:
      ConfigError: the compact dtype would change an observation.
    """
    native = GymnaxEnv(env, params)

    def play(carry: tuple[chex.Array, Any], key: chex.PRNGKey):
        obs, state = carry
        kept = jnp.all(obs.astype(compact).astype(obs.dtype) == obs)
        step_key, action_key, reset_key = jax.random.split(key, 3)
        result = native.step(step_key, state, random_action(native.action, action_key))
        done = result.terminated | result.truncated
        stepped, fresh = (result.obs, result.state), native.reset(reset_key)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, stepped), kept

    # The keys are an argument: with constant keys, the reset would run operation by operation.
    program = jax.jit(lambda keys: jax.lax.scan(play, native.reset(keys[0]), keys))
    _, kept = program(jax.random.split(jax.random.key(0), num_steps))
    if not bool(kept.all()):
        raise ConfigError(
            f"observation_dtype: {compact} would change the observations of {native.name}, "
            "which are not all whole numbers in its range; use native"
        )
