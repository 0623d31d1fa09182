"""Reading action and observation spaces: gymnax's own, and look-alikes by their attributes."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.fields import ConfigError
from ppg_jax.types import ActionSpec, ObservationSpec

ToEnv = Callable[[chex.Array], Any]


class MultiDiscrete:
    """K independent choices, for environments of your own: gymnax has no such space.

    Args:
      nvec: number of categories of each choice. Actions are int32 ``[K]``.
    """

    def __init__(self, nvec: tuple[int, ...]) -> None:
        self.nvec = tuple(int(n) for n in np.ravel(nvec))
        self.shape = (len(self.nvec),)
        self.dtype = jnp.int32

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """One uniform action, int32 ``[K]``."""
        return jax.random.randint(key, self.shape, 0, jnp.array(self.nvec), self.dtype)

    def contains(self, x: chex.Array) -> chex.Array:
        """Whether every component of ``x [K]`` is one of its categories; bool scalar."""
        return jnp.all((x >= 0) & (x < jnp.array(self.nvec)))


def read_action_space(space: Any, env_name: str) -> tuple[ActionSpec, ToEnv]:
    """The policy's view of an action space, and how its actions are handed to the environment.

    Continuous actions are clipped to the space there; the policy keeps what it sampled.

    Raises:
      ConfigError: a space no policy here can act in.
    """
    if hasattr(space, "spaces"):
        return _read_composite(space, env_name)
    if hasattr(space, "nvec"):
        nvec = np.asarray(space.nvec)
        dtype = getattr(space, "dtype", jnp.int32)
        sizes = tuple(int(n) for n in nvec.ravel())
        return ActionSpec("multi_discrete", sizes), lambda a: a.reshape(nvec.shape).astype(dtype)
    if hasattr(space, "n"):
        dtype = getattr(space, "dtype", jnp.int32)
        return ActionSpec("discrete", (int(space.n),)), lambda a: a.astype(dtype)
    is_box = hasattr(space, "low") and hasattr(space, "high")
    if is_box and jnp.issubdtype(space.dtype, jnp.floating):
        shape = tuple(space.shape)

        def to_env(action: chex.Array) -> chex.Array:
            return jnp.clip(action.reshape(shape), space.low, space.high).astype(space.dtype)

        return ActionSpec("continuous", (int(np.prod(shape, dtype=int)),)), to_env
    raise ConfigError(
        f"env: {env_name} has the action space {space!r}; a policy needs Discrete, MultiDiscrete, "
        "Tuple or Dict of Discrete, or a Box of floats"
    )


def random_action(spec: ActionSpec, key: chex.PRNGKey) -> chex.Array:
    """An action as a policy gives it: uniform, or standard normal where actions are continuous."""
    if spec.kind == "continuous":
        return jax.random.normal(key, spec.sizes)
    action = jax.random.randint(key, (len(spec.sizes),), 0, jnp.array(spec.sizes), jnp.int32)
    return action[0] if spec.kind == "discrete" else action


def _read_composite(space: Any, env_name: str) -> tuple[ActionSpec, ToEnv]:
    """A Tuple or Dict of Discrete, acted in as one multi-discrete action."""
    named = isinstance(space.spaces, Mapping)
    names, parts = zip(*space.spaces.items(), strict=True) if named else ((), space.spaces)
    if not all(hasattr(part, "n") for part in parts):
        raise ConfigError(
            f"env: {env_name} has the action space {space!r}; of composite spaces only those of "
            "Discrete parts can be acted in"
        )

    def to_env(action: chex.Array) -> Any:
        pieces = tuple(action[i].astype(part.dtype) for i, part in enumerate(parts))
        return dict(zip(names, pieces, strict=True)) if named else pieces

    return ActionSpec("multi_discrete", tuple(int(part.n) for part in parts)), to_env


def read_observation(
    space: Any, obs: Any, observation_dtype: str, env_name: str
) -> ObservationSpec:
    """The networks' view of an observation.

    Args:
      space: the environment's observation space.
      obs: shape and dtype of what ``reset`` really returns: not every environment keeps to its
        space, and what is returned is what counts.
      observation_dtype: ``native``, ``bool`` or ``uint8``.
      env_name: for messages.

    Raises:
      ConfigError: observations of several arrays, or values that the compact dtype cannot hold.
    """
    if not hasattr(obs, "shape"):
        raise ConfigError(
            f"env: {env_name} observes a {type(obs).__name__} of arrays; only a single array can "
            "be read, so join them in the environment"
        )
    shape = tuple(obs.shape)
    if hasattr(space, "n") and shape == ():
        return ObservationSpec((), obs.dtype, num_categories=int(space.n))
    low, high = _bounds(space)
    limit = {"bool": 1, "uint8": 255}.get(observation_dtype)
    if limit is not None and not (low >= 0 and high <= limit):
        raise ConfigError(
            f"observation_dtype: {observation_dtype} cannot hold the observations of {env_name}, "
            f"which lie in [{low:g}, {high:g}]; use native"
        )
    dtype = obs.dtype if limit is None else jnp.dtype(observation_dtype)
    if 0 in shape:
        raise ConfigError(f"env: {env_name} observes arrays {shape}, which hold nothing")
    is_bytes = low >= 0 and high == 255
    return ObservationSpec(shape, dtype, scale=255.0 if is_bytes else 1.0)


def _bounds(space: Any) -> tuple[float, float]:
    low, high = getattr(space, "low", -np.inf), getattr(space, "high", np.inf)
    return float(np.min(np.asarray(low))), float(np.max(np.asarray(high)))
