"""gymnax environments: built-in, registered, or objects with the same interface."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError, did_you_mean
from ppg_jax.envs.suite import NO_LIMIT, TIME_LIMIT, Suite, SuiteEnvironment, SuiteStep

NEEDS_DOWNLOAD = frozenset({"MNISTBandit-bsuite"})
"""gymnax environments that download a data set in their constructor."""

TASK_FIELDS = {
    "BernoulliBandit-misc": ("reward_probs", "exp_reward_best"),
    "GaussianBandit-misc": ("mu",),
    "FourRooms-misc": ("goal",),
    "MetaMaze-misc": ("goal",),
    "PointRobot-misc": ("goal",),
}
"""State fields that define the task in gymnax's meta-learning environments."""


DRAWABLE = (
    "Acrobot-v1",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
    "Catch-bsuite",
    "FourRooms-misc",
    "MetaMaze-misc",
    "PointRobot-misc",
    "Pong-misc",
)
"""Names of the environments that gymnax can draw."""


def available_envs() -> list[str]:
    """Ids for ``Config.env``: gymnax's own, and those added by ``gymnax.register``."""
    # Imported here, because the import runs JAX computations. CPU cores can become JAX devices only
    # before the first computation.
    import gymnax

    return [name for name in gymnax.registered_envs if name not in NEEDS_DOWNLOAD]


def make(
    env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> "GymnaxEnvironment":
    """A built-in or registered gymnax environment.

    Raises:
      ConfigError: the id or a name is unknown.
    """
    import gymnax  # imported here for the same reason as in available_envs

    if env_id in NEEDS_DOWNLOAD:
        raise ConfigError(
            f"env: {env_id} is not supported, because it downloads a data set; use another"
        )
    if env_id not in gymnax.registered_envs:
        hint = did_you_mean(env_id, available_envs())
        raise ConfigError(
            f"env: {env_id!r} is unknown; {hint}ppg-jax list shows all; for your own environment "
            "use package.module:Class, or from Python an object, Config(env=MyEnv())"
        )
    try:
        raw, params = gymnax.make(env_id, **env_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"env_kwargs: {dict(env_kwargs)} is invalid for {env_id}: {error}"
        ) from None
    return GymnaxEnvironment(raw, _with_params(raw, params, env_params))


def wrap(env: Any, env_params: Mapping[str, Any]) -> "GymnaxEnvironment":
    """An environment object with gymnax's interface.

    Raises:
      ConfigError: the name of a parameter is unknown, or its value is invalid.
    """
    return GymnaxEnvironment(env, _with_params(env, env.default_params, env_params))


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


class GymnaxEnvironment(SuiteEnvironment):
    """A gymnax environment, or an object with the same interface.

    The object needs gymnax 1.x's ``step_env``, ``reset_env``, ``action_space`` and
    ``observation_space``, and ``is_truncated`` if it has a time limit.
    """

    counts_steps = False

    def __init__(self, env: Any, params: Any) -> None:
        params, limit = _with_time_limit(params)
        self.env, self.params = env, params
        self.name = str(getattr(env, "name", type(env).__name__))
        self.max_episode_steps = limit
        self._is_truncated = _truncation(env, params)
        self.task_fields = TASK_FIELDS.get(self.name, getattr(env, "task_fields", ()))
        self.mask_key = getattr(env, "mask_key", None)
        self.default_key = getattr(env, "default_key", None)

    # Properties, because gymnax's spaces hold arrays, which would stay in a device's memory.
    @property
    def observation_space(self) -> Any:
        """Space of the observations."""
        return self.env.observation_space(self.params)

    @property
    def action_space(self) -> Any:
        """Space of the actions."""
        return self.env.action_space(self.params)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        obs, state = self.env.reset_env(key, self.params)
        return obs, state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. If the episode ended, nothing is reset."""
        obs, state, reward, terminated, _ = self.env.step_env(key, state, action, self.params)
        return SuiteStep(obs, state, reward, terminated, self._is_truncated(state, self.params))

    def observe(self, key: chex.PRNGKey, state: Any) -> Any:
        """The observation of a state; None if the environment cannot compute it alone."""
        if not hasattr(self.env, "observe"):
            return None
        return self.env.observe(key, state, None, self.params)

    def check_drawable(self) -> None:
        """Checks that gymnax can draw the environment.

        Raises:
          ConfigError: it cannot, or it needs pygame (classic control) and that is missing.
        """
        if self.name not in DRAWABLE:
            raise ConfigError(
                f"env: gymnax cannot draw {self.name}; it can draw {', '.join(DRAWABLE)}"
            )
        if self.name in DRAWABLE[:5]:
            try:
                import pygame  # noqa: F401
            except ImportError:
                raise ConfigError(
                    f"env: drawing {self.name} needs pygame; pip install 'ppg-jax[render]'"
                ) from None

    def animate(self, states: Sequence[Any], returns: Sequence[float], file: str) -> None:
        """Writes an episode as a GIF, with gymnax's visualiser."""
        from gymnax.visualize import Visualizer

        Visualizer(self.env, self.params, list(states), list(returns)).animate(file)


def _truncation(env: Any, params: Any) -> Callable[[Any, Any], Any]:
    """The function that tells whether a time limit cut an episode; always False without a limit."""
    from gymnax.environments.environment import Environment

    own = getattr(type(env), "is_truncated", None)
    without_limit = own is Environment.is_truncated and not hasattr(params, TIME_LIMIT)
    return (lambda state, params: False) if own is None or without_limit else env.is_truncated


SUITE = Suite("gymnax", "gymnax", make, available_envs, "gymnax")
