"""Conversion of an environment's observations to the form that the networks read."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.spaces import Numbers, read_space
from ppg_jax.types import ObservationSpec

Store = Callable[[Any], chex.Array]
"""Converts an observation of the environment to the array that is stored."""
BYTES = 255.0


def read_observation(
    space: Any,
    obs: Any,
    env_name: str,
    *,
    observation_dtype: str = "native",
    observation_scale: float | None = None,
) -> tuple[ObservationSpec, Store]:
    """The spec of the stored observations, and the function that converts to them.

    A Tuple or Dict of spaces becomes one vector. In it, category numbers are one-hot, byte images
    are divided by 255, and all other numbers are unchanged.

    Args:
      space: observation space of the environment.
      obs: shapes and dtypes that ``reset`` really returns. These decide, because some environments
        do not keep to their space.
      env_name: name of the environment, for messages.
      observation_dtype: ``native``, ``bool`` or ``uint8``.
      observation_scale: divisor of the observations; None: 255 for byte images, otherwise 1.

    Raises:
      ConfigError: the space is not supported, or the compact dtype cannot represent its values.
    """
    tree = read_space(space)
    if tree is None:
        raise ConfigError(
            f"env: {env_name} has the observation space {space!r}, which is not supported; use "
            "Box, Discrete, MultiDiscrete, MultiBinary, or Tuples and Dicts of these"
        )
    if not isinstance(tree, Numbers):
        if observation_dtype != "native":
            raise ConfigError(
                f"observation_dtype: {observation_dtype} cannot be used with {env_name}, whose "
                "observations have several parts; use native"
            )
        return _joined(tree, obs, env_name, observation_scale)
    if not hasattr(obs, "shape"):
        raise ConfigError(
            f"env: {env_name} returns a {type(obs).__name__} as observation, but its observation "
            "space is a single array; make them agree"
        )
    if 0 in obs.shape:
        raise ConfigError(
            f"env: {env_name} has observations of shape {obs.shape}, which are empty; return at "
            "least one number"
        )
    if tree.as_categories and obs.shape == tree.shape:
        return _categories(tree, obs, env_name, observation_scale)
    return _amounts(tree, obs, env_name, observation_dtype, observation_scale)


def _categories(
    part: Numbers, obs: Any, env_name: str, observation_scale: float | None
) -> tuple[ObservationSpec, Store]:
    """Category numbers, which the encoder reads one-hot. They are stored counting from 0."""
    if observation_scale is not None:
        raise ConfigError(
            f"observation_scale: {observation_scale} cannot be used with {env_name}, whose "
            "observations are category numbers; leave it out"
        )
    dtype = obs.dtype if jnp.issubdtype(obs.dtype, jnp.integer) else jnp.dtype(jnp.int32)
    spec = ObservationSpec(tuple(obs.shape), dtype, categories=part.sizes)

    def store(obs: chex.Array) -> chex.Array:
        obs = jnp.asarray(obs)
        if np.any(part.start):
            obs = obs - jnp.asarray(part.start, obs.dtype)
        return obs.astype(dtype).reshape(spec.shape)

    return spec, store


def _amounts(
    part: Numbers, obs: Any, env_name: str, observation_dtype: str, observation_scale: float | None
) -> tuple[ObservationSpec, Store]:
    """Numbers that are amounts, stored in their own dtype or a compact one."""
    low, high = _bounds(part)
    limit = {"bool": 1, "uint8": BYTES}.get(observation_dtype)
    if limit is not None and not (low >= 0 and high <= limit):
        raise ConfigError(
            f"observation_dtype: {observation_dtype} cannot represent the observations of "
            f"{env_name}, which are in [{low:g}, {high:g}]; use native"
        )
    dtype = obs.dtype if limit is None else jnp.dtype(observation_dtype)
    scale = observation_scale
    if scale is None:
        scale = BYTES if _is_byte_image(part, obs.shape, dtype) else 1.0
    spec = ObservationSpec(tuple(obs.shape), dtype, scale=scale)
    return spec, lambda obs: jnp.asarray(obs).astype(dtype).reshape(spec.shape)


def _bounds(part: Numbers) -> tuple[float, float]:
    if part.kind == "discrete":
        return float(np.min(part.start)), float(np.max(part.start + np.max(part.sizes) - 1))
    return (float(np.min(part.low)), float(np.max(part.high))) if part.low.size else (0.0, 0.0)


def _is_byte_image(part: Numbers, shape: tuple[int, ...], dtype: Any) -> bool:
    low, high = _bounds(part)
    return dtype == jnp.uint8 and len(shape) >= 2 and low >= 0 and high == BYTES


def _joined(
    tree: Any, obs: Any, env_name: str, observation_scale: float | None
) -> tuple[ObservationSpec, Store]:
    """An observation of several parts, joined to one float32 vector."""

    def store(obs: Any) -> chex.Array:
        return jnp.concatenate(list(_pieces(tree, obs)))

    try:
        joined = jax.eval_shape(store, obs)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(
            f"env: {env_name} returns observations that do not match its observation space; make "
            f"them agree: {reason}"
        ) from error
    if not joined.size:
        raise ConfigError(f"env: {env_name} has empty observations; return at least one number")
    return ObservationSpec(joined.shape, joined.dtype, scale=observation_scale or 1.0), store


def _pieces(tree: Any, obs: Any):
    """Yields the parts of an observation, each as a float32 vector."""
    if isinstance(tree, Numbers):
        yield _flat(tree, obs)
        return
    if isinstance(obs, Mapping | tuple | list) and len(obs) != len(tree):
        raise ValueError(f"{len(obs)} parts instead of {len(tree)}")
    for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
        as_field = isinstance(name, str) and not isinstance(obs, Mapping)
        yield from _pieces(part, getattr(obs, str(name)) if as_field else obs[name])


def _flat(part: Numbers, obs: Any) -> chex.Array:
    obs = jnp.asarray(obs)
    if part.as_categories and obs.shape == part.shape:
        numbers = (obs - jnp.asarray(part.start, obs.dtype)).reshape(-1)
        columns = [jax.nn.one_hot(numbers[i], n) for i, n in enumerate(part.sizes)]
        return jnp.concatenate(columns).astype(jnp.float32)
    image = _is_byte_image(part, obs.shape, obs.dtype)
    numbers = obs.reshape(math.prod(obs.shape)).astype(jnp.float32)
    return numbers * jnp.float32(1.0 / BYTES) if image else numbers
