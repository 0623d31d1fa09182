"""gymnax environments, built-in, registered or handed over as objects, behind one interface."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.envs.base import StepResult
from ppg_jax.envs.spaces import ToEnv, random_action, read_action_space, read_observation
from ppg_jax.fields import ConfigError, FrozenMapping, did_you_mean
from ppg_jax.types import ActionSpec, ObservationSpec

NEEDS_DOWNLOAD = frozenset({"MNISTBandit-bsuite"})
"""gymnax environments that fetch a data set when they are made."""

TASK_FIELDS = {
    "BernoulliBandit-misc": ("reward_probs", "exp_reward_best"),
    "GaussianBandit-misc": ("mu",),
    "FourRooms-misc": ("goal",),
    "MetaMaze-misc": ("goal",),
    "PointRobot-misc": ("goal",),
}
"""What makes the task in gymnax's meta-learning environments: it stays when an episode ends."""


def available_envs() -> list[str]:
    """Ids that ``Config.env`` takes: gymnax's, and what ``gymnax.register`` has added."""
    import gymnax  # here: importing it computes, and CPU cores become devices only before that

    return [name for name in gymnax.registered_envs if name not in NEEDS_DOWNLOAD]


@functools.lru_cache(maxsize=64)
def make_env(
    env: Any,
    env_params: Mapping[str, Any] = FrozenMapping(),
    env_kwargs: Mapping[str, Any] = FrozenMapping(),
    observation_dtype: str = "native",
) -> "GymnaxEnv":
    """An environment from an id or a gymnax environment object.

    Args:
      env: an id from ``available_envs`` or an object with gymnax 1.x's ``step_env``,
        ``reset_env``, ``is_truncated``, ``action_space`` and ``observation_space``.
      env_params: changes to its default parameters, by name.
      env_kwargs: arguments for making it; only with an id.
      observation_dtype: ``native``, ``bool`` or ``uint8``, how observations are stored.

    Raises:
      ConfigError: an unknown id or name, or spaces that cannot be used.
    """
    # Constants made while somebody traces would be tracers, and outlive the trace in the cache.
    with jax.ensure_compile_time_eval():
        try:
            raw, params = _find(env, env_kwargs)
            params = _with_params(raw, params, env_params)
            made = GymnaxEnv(raw, params, observation_dtype)
            if observation_dtype != "native":
                _check_lossless(raw, params, made.observation.dtype)
        except ConfigError:
            raise
        except Exception as error:  # whatever somebody's environment raises
            name = env if isinstance(env, str) else type(env).__name__
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ConfigError(f"env: {name} cannot be reset and stepped: {reason}") from error
    return made


def _find(env: Any, env_kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    import gymnax  # here, for the same reason as in available_envs

    if not isinstance(env, str):
        if env_kwargs:
            raise ConfigError("env_kwargs: only an environment made from its id takes arguments")
        return env, env.default_params
    if env in NEEDS_DOWNLOAD:
        raise ConfigError(f"env: {env} downloads a data set when it is made; use another")
    if env not in gymnax.registered_envs:
        hint = did_you_mean(env, available_envs())
        raise ConfigError(f"env: {env!r} is unknown; {hint}ppg-jax list shows all")
    try:
        return gymnax.make(env, **env_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"env_kwargs: {dict(env_kwargs)} will not do for {env}: {error}"
        ) from None


def _with_params(env: Any, params: Any, changes: Mapping[str, Any]) -> Any:
    if not changes:
        return params
    names = [f.name for f in dataclasses.fields(params)]
    arrays = {}
    for name, value in changes.items():
        if name not in names:
            raise ConfigError(
                f"env_params.{name}: unknown to {env.name}; {did_you_mean(name, names)}known are "
                + ", ".join(names)
            )
        default = np.asarray(getattr(params, name))
        try:
            given = np.asarray(value)
        except ValueError:  # nested lists of different lengths
            given = np.asarray(None)
        if given.dtype.kind not in "bif" or given.shape != default.shape:
            wanted = f"an array {default.shape}" if default.shape else "a number"
            raise ConfigError(f"env_params.{name}: {value!r} will not do; it should be {wanted}")
        arrays[name] = jnp.asarray(given, default.dtype) if default.shape else value
    return params.replace(**arrays)


class GymnaxEnv:
    """One gymnax environment without auto-reset, as ``envs.base.Environment`` asks for it.

    States keep the dtypes they have after a reset, so that a scan can carry them: some
    environments reset to Python numbers and step to arrays.
    """

    def __init__(self, env: Any, params: Any, observation_dtype: str = "native") -> None:
        self._env, self._params = env, params
        self.name: str = getattr(env, "name", type(env).__name__)
        obs, state = jax.eval_shape(env.reset_env, jax.random.key(0), params)
        self.observation: ObservationSpec = read_observation(
            env.observation_space(params), obs, observation_dtype, self.name
        )
        spec, to_env = read_action_space(env.action_space(params), self.name)
        self.action: ActionSpec = spec
        self._to_env: ToEnv = to_env
        stepped = jax.eval_shape(self._raw_step, jax.random.key(0), state)[1]
        self._state = jax.tree.map(_common, state, stepped)
        self.task_fields = TASK_FIELDS.get(self.name, getattr(env, "task_fields", ()))
        limit = getattr(params, "max_steps_in_episode", None)
        self.max_episode_steps: int | None = None if limit is None else int(limit)

    @property
    def unwrapped(self) -> tuple[Any, Any]:
        """gymnax's own environment and its parameters."""
        return self._env, self._params

    def inner_state(self, state: Any) -> Any:
        """The state itself."""
        return state

    def _raw_step(self, key: chex.PRNGKey, state: Any):
        action = self._to_env(random_action(self.action, key))
        return self._env.step_env(key, state, action, self._params)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, Any]:
        """A fresh episode: ``(obs, state)``."""
        obs, state = self._env.reset_env(key, self._params)
        return self._store(obs), self._settle(state)

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[chex.Array, Any]:
        """A fresh episode with the ``task_fields`` of a state: ``(obs, state)``."""
        reset_key, obs_key = jax.random.split(key)
        obs, fresh = self._env.reset_env(reset_key, self._params)
        fresh = fresh.replace(**{name: getattr(state, name) for name in self.task_fields})
        if hasattr(self._env, "observe"):  # the task may be part of the observation
            obs = self._env.observe(obs_key, fresh, None, self._params)
        return self._store(obs), self._settle(fresh)

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """One step; the episode may have ended, nothing is reset."""
        obs, state, reward, terminated, _ = self._env.step_env(
            key, state, self._to_env(action), self._params
        )
        truncated = self._env.is_truncated(state, self._params)
        return StepResult(
            obs=self._store(obs),
            state=self._settle(state),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            terminated=jnp.asarray(terminated, jnp.bool_).reshape(()),
            truncated=jnp.asarray(truncated, jnp.bool_).reshape(()),
        )

    def _store(self, obs: chex.Array) -> chex.Array:
        return jnp.asarray(obs).astype(self.observation.dtype).reshape(self.observation.shape)

    def _settle(self, state: Any) -> Any:
        def settle(x: Any, like: jax.ShapeDtypeStruct) -> chex.Array:
            if _is_key(like):
                return x
            return jnp.asarray(x).astype(like.dtype).reshape(like.shape)

        return jax.tree.map(settle, state, self._state)


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _common(reset: jax.ShapeDtypeStruct, stepped: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    if _is_key(reset):
        return reset
    return jax.ShapeDtypeStruct(reset.shape, jnp.promote_types(reset.dtype, stepped.dtype))


def _check_lossless(env: Any, params: Any, compact: Any, num_steps: int = 256) -> None:
    """Plays a while at random: bounds cannot say that every value is whole.

    Raises:
      ConfigError: an observation that the compact dtype would change.
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

    # Keys are arguments: of constants the reset would be computed operation by operation.
    program = jax.jit(lambda keys: jax.lax.scan(play, native.reset(keys[0]), keys))
    _, kept = program(jax.random.split(jax.random.key(0), num_steps))
    if not bool(kept.all()):
        raise ConfigError(
            f"observation_dtype: {compact} would change the observations of {native.name}, "
            "which are not whole numbers in its range; use native"
        )
