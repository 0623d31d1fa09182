"""A training state as plain arrays, and back; arrays as one vector of bytes, and back."""

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
    """What ``to_arrays`` took apart, of a configuration whose ``index_of`` they have."""
    state, impls = _expected(config)

    def leaf(path: Any, _: Any) -> jax.Array:
        name = _name(path)
        array = jnp.array(arrays[name])
        return jax.random.wrap_key_data(array, impl=impls[name]) if name in impls else array

    return jax.tree_util.tree_map_with_path(leaf, state)


def index_of(config: Config) -> Index:
    """Name, dtype and shape of the arrays that a state of a configuration has."""
    leaves = jax.tree_util.tree_leaves_with_path(_expected(config)[0])
    return [[_name(path), str(x.dtype), list(x.shape)] for path, x in leaves]


def _expected(config: Config) -> tuple[Any, dict[str, Any]]:
    """A state's shapes, keys as their data, and what kind of keys those are."""
    impls: dict[str, Any] = {}

    def like(keys: jax.Array) -> TrainState:
        state = jax.vmap(lambda key: init(config, key))(keys)

        def plain(path: Any, x: Any) -> Any:
            if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return x
            impls[_name(path)] = jax.random.key_impl(x)
            return jax.random.key_data(x)

        return jax.tree_util.tree_map_with_path(plain, state)

    return jax.eval_shape(like, jax.random.split(jax.random.key(0), config.seeds)), impls


def _name(path: Any) -> str:
    # Orbax makes folders of "/".
    return jax.tree_util.keystr(path, simple=True, separator=".")


def pack(arrays: Arrays) -> tuple[np.ndarray, Index]:
    """All arrays as one vector of bytes, and what ``unpack`` needs to take it apart.

    Orbax takes a time for each array, and a state's are many and small.
    """
    packed = np.concatenate([x.reshape(-1).view(np.uint8) for x in arrays.values()])
    return packed, [[name, str(x.dtype), list(x.shape)] for name, x in arrays.items()]


def packed_size(index: Index) -> int:
    """Bytes of the vector that ``pack`` makes of such arrays."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for _, dtype, shape in index)


def unpack(packed: np.ndarray, index: Index) -> Arrays:
    """The arrays that ``pack`` joined."""
    arrays, start = {}, 0
    for name, dtype, shape in index:
        size = packed_size([[name, dtype, shape]])
        arrays[name] = packed[start : start + size].view(dtype).reshape(shape)
        start += size
    return arrays
