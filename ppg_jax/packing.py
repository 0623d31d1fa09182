"""A training state as plain arrays, and back; arrays as one vector of bytes, and back."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.train import init
from ppg_jax.types import TrainState

Arrays = dict[str, np.ndarray]
Index = list[list[Any]]
"""Name, dtype and shape of every array."""


def to_arrays(states: Sequence[TrainState], rows: int) -> Arrays:
    """States' leaves by their paths, joined and copied to the host; random keys as their data."""

    def plain(x: Any) -> np.ndarray:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(states[0])]
    parts = zip(*map(jax.tree.leaves, states), strict=True)
    # Joining copies: on CPU one array would share memory with a buffer that training reuses.
    return {
        name: np.concatenate([plain(x) for x in some])[:rows]
        for name, some in zip(names, parts, strict=True)
    }


def from_arrays(arrays: Arrays, config: Config) -> TrainState:
    """What ``to_arrays`` took apart.

    Raises:
      ConfigError: these are not the arrays of such a configuration.
    """
    impls: dict[str, Any] = {}

    def like(keys: jax.Array) -> TrainState:
        state = jax.vmap(lambda key: init(config, key))(keys)

        def plain(path: Any, x: Any) -> Any:
            if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return x
            impls[_name(path)] = jax.random.key_impl(x)
            return jax.random.key_data(x)

        return jax.tree_util.tree_map_with_path(plain, state)

    keys = jax.random.split(jax.random.key(0), config.seeds)
    expected = jax.eval_shape(like, keys)

    def leaf(path: Any, x: Any) -> jax.Array:
        name = _name(path)
        found = arrays.get(name)
        if found is None or (found.shape, found.dtype) != (x.shape, x.dtype):
            what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise ConfigError(
                f"DIR: the checkpoint is another configuration's: {name} is {what}, it should be "
                f"{x.dtype}{list(x.shape)}"
            )
        array = jnp.array(found)
        return jax.random.wrap_key_data(array, impl=impls[name]) if name in impls else array

    return jax.tree_util.tree_map_with_path(leaf, expected)


def _name(path: Any) -> str:
    # Orbax makes folders of "/".
    return jax.tree_util.keystr(path, simple=True, separator=".")


def pack(arrays: Arrays) -> tuple[np.ndarray, Index]:
    """All arrays as one vector of bytes, and what ``unpack`` needs to take it apart.

    Orbax takes a time for each array, and a state's are many and small.
    """
    packed = np.concatenate([x.reshape(-1).view(np.uint8) for x in arrays.values()])
    return packed, [[name, str(x.dtype), list(x.shape)] for name, x in arrays.items()]


def unpack(packed: np.ndarray, index: Index) -> Arrays:
    """The arrays that ``pack`` joined."""
    arrays, start = {}, 0
    for name, dtype, shape in index:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        arrays[name] = packed[start : start + size].view(dtype).reshape(shape)
        start += size
    return arrays
