"""Conversion of an environment's observations to the form that the networks read."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError, reason
from ppg_jax.envs.spaces import Numbers, read_space
from ppg_jax.functional import Columns, one_hot
from ppg_jax.types import ObservationSpec

Store = Callable[[Any], Any]
"""Converts an observation of the environment to what is stored: an array, or ``PackedColumns``."""
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
      observation_dtype: ``native``, ``bool``, ``uint8`` or ``mixed``.
      observation_scale: divisor of the observations; None: 255 for byte images, otherwise 1.

    Raises:
      ConfigError: the space is not supported, or the compact dtype cannot represent its values.
    """
    if observation_dtype == "mixed":
        native = read_observation(space, obs, env_name, observation_scale=observation_scale)
        return _mixed(*native, list(_leaves(read_space(space), obs)), env_name)
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
                "observations have several parts; use mixed or native"
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
        return jnp.concatenate([x.reshape(-1) for x in _pieces(tree, obs)])

    try:
        joined, parts = jax.eval_shape(lambda obs: (store(obs), list(_pieces(tree, obs))), obs)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"env: {env_name} returns observations that do not match its observation space; make "
            f"them agree: {reason(error, 200)}"
        ) from error
    if not joined.size:
        raise ConfigError(f"env: {env_name} has empty observations; return at least one number")
    shapes = tuple(part.shape for part in parts)
    scale = observation_scale or 1.0
    flags = _flags(list(_leaves(tree, obs)))
    spec = ObservationSpec(joined.shape, joined.dtype, scale=scale, parts=shapes, flags=flags)
    return spec, store


def _flags(leaves: list[tuple[Numbers, Any]]) -> tuple[tuple[bool, int], ...]:
    """Runs of components: whether they are flags or one-hot categories, and how many."""
    runs: list[tuple[bool, int]] = []
    for part, x in leaves:
        named = _named(part, x)
        size = sum(part.sizes) if named else math.prod(x.shape)
        runs.append((named or x.dtype == jnp.bool_, size))
    return tuple((b, sum(n for _, n in run)) for b, run in groupby(runs, lambda r: r[0]))


def _pieces(tree: Any, obs: Any) -> Iterator[chex.Array]:
    """Yields the parts of an observation as float32 arrays, category numbers one-hot."""
    for part, x in _leaves(tree, obs):
        yield _numbers(part, jnp.asarray(x))


def _leaves(tree: Any, obs: Any) -> Iterator[tuple[Numbers, Any]]:
    """Yields the spaces of an observation's parts, each with its part."""
    if isinstance(tree, Numbers):
        yield tree, obs
        return
    if isinstance(obs, Mapping | tuple | list) and len(obs) != len(tree):
        raise ValueError(f"{len(obs)} parts instead of {len(tree)}")
    for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _leaves(part, entry(obs, name))


def entry(obs: Any, name: Any) -> Any:
    """An entry of an observation: of a mapping or a sequence, or a field of a record."""
    as_field = isinstance(name, str) and not isinstance(obs, Mapping)
    return getattr(obs, name) if as_field else obs[name]


def _numbers(part: Numbers, obs: chex.Array) -> chex.Array:
    if _named(part, obs):
        numbers = obs - jnp.asarray(part.start, obs.dtype)
        return one_hot(numbers, part.sizes, part.shape)
    numbers = obs.astype(jnp.float32)
    image = _is_byte_image(part, obs.shape, obs.dtype)
    return numbers * jnp.float32(1.0 / BYTES) if image else numbers


def _named(part: Numbers, obs: Any) -> bool:
    """Whether a part is read as category numbers."""
    return part.as_categories and obs.shape == part.shape


def _mixed(
    spec: ObservationSpec, store: Store, leaves: list[tuple[Numbers, Any]], env_name: str
) -> tuple[ObservationSpec, Store]:
    """Stores flags and one-hot categories as bits, and all other components as float32."""
    if spec.categories is not None:
        raise ConfigError(
            f"observation_dtype: mixed cannot be used with {env_name}, whose observations are "
            "category numbers; use native"
        )
    flags = _flags(leaves)
    which, sizes = zip(*flags, strict=True)
    if not any(which):
        raise ConfigError(
            f"observation_dtype: mixed cannot be used with {env_name}, which has no flags and no "
            "category numbers; use native, or bool if all its numbers are 0 or 1"
        )
    binary = tuple(np.repeat(which, sizes).tolist())
    columns = Columns(spec.shape, jnp.dtype(spec.dtype).name, binary)
    spec = dataclasses.replace(spec, flags=flags, packed=True)
    return spec, lambda obs: columns.pack(store(obs))
