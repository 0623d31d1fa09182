"""Converts a training state to plain arrays and back, and arrays to one byte vector and back."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm import init
from ppg_jax.config import Config
from ppg_jax.types import TrainState

Arrays = dict[str, np.ndarray]
Index = list[list[Any]]
"""Name, dtype and shape of every array."""


def to_arrays(states: Sequence[TrainState], replicas: int) -> Arrays:
    """Leaves of the states by path, joined and copied to the host. Random keys become their data.

    Args:
      states: states of all batches, leaves ``[batch_size, ...]``.
      replicas: number of replicas to keep; the rest is padding.

    Returns:
      Arrays ``[replicas, ...]``.
    """

    def plain(x: Any) -> np.ndarray:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(states[0])]
    parts = zip(*map(jax.tree.leaves, states), strict=True)
    # Joining makes a copy. Without a copy, an array on CPU would share memory with a buffer that
    # training reuses.
    return {
        name: np.concatenate([plain(x) for x in batches])[:replicas]
        for name, batches in zip(names, parts, strict=True)
    }


def from_arrays(arrays: Arrays, config: Config) -> TrainState:
    """Inverse of ``to_arrays``. The arrays must match ``index_of(config)``."""
    state, impls = _expected(config)

    def leaf(path: Any, _: Any) -> jax.Array:
        name = _name(path)
        array = jnp.array(arrays[name])
        return jax.random.wrap_key_data(array, impl=impls[name]) if name in impls else array

    return jax.tree_util.tree_map_with_path(leaf, state)


def index_of(config: Config) -> Index:
    """Name, dtype and shape of every array in a state of a configuration."""
    leaves = jax.tree_util.tree_leaves_with_path(_expected(config)[0])
    return [[_name(path), str(x.dtype), list(x.shape)] for path, x in leaves]


def _expected(config: Config) -> tuple[Any, dict[str, Any]]:
    """Shapes of a state, with random keys as their data, and the implementation of each key."""
    impls: dict[str, Any] = {}

    def like(keys: jax.Array) -> TrainState:
        state = jax.lax.map(lambda key: init(config, key), keys)

        def plain(path: Any, x: Any) -> Any:
            if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return x
            impls[_name(path)] = jax.random.key_impl(x)
            return jax.random.key_data(x)

        return jax.tree_util.tree_map_with_path(plain, state)

    return jax.eval_shape(like, jax.random.split(jax.random.key(0), config.seeds)), impls


def _name(path: Any) -> str:
    # Not "/" as the separator, for which Orbax would create folders.
    return jax.tree_util.keystr(path, simple=True, separator=".")


def pack(arrays: Arrays) -> tuple[np.ndarray, Index]:
    """Joins all arrays to one vector of bytes, and returns the index that ``unpack`` needs.

    Orbax needs some time for each array, and a state has many small ones.
    """
    packed = np.concatenate([x.reshape(-1).view(np.uint8) for x in arrays.values()])
    return packed, [[name, str(x.dtype), list(x.shape)] for name, x in arrays.items()]


def packed_size(index: Index) -> int:
    """Size in bytes of the vector that ``pack`` makes of arrays with this index."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for _, dtype, shape in index)


def unpack(packed: np.ndarray, index: Index) -> Arrays:
    """Inverse of ``pack``."""
    arrays, start = {}, 0
    for name, dtype, shape in index:
        size = packed_size([[name, dtype, shape]])
        arrays[name] = packed[start : start + size].view(dtype).reshape(shape)
        start += size
    return arrays
