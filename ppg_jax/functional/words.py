"""Many small arrays of several dtypes as one array of 32-bit words, bit for bit."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

MOST = 16
"""Leaves with more elements than this stay arrays of their own."""


def to_words(tree: Any, lead: int) -> tuple[chex.Array, list[chex.Array]]:
    """All small leaves in one array.

    Args:
      tree: leaves ``[*first, ...]`` with the same first axes, of at most 32 bits an element.
      lead: number of the first axes.

    Returns:
      The small leaves, a word for each element, uint32 ``[*first, W]``; and the large leaves.
    """
    leaves = jax.tree.leaves(tree)
    none = jnp.zeros((*leaves[0].shape[:lead], 0), jnp.uint32)
    small = [_as_words(x, lead) for x in leaves if _is_small(x, lead)]
    words = jnp.concatenate([none, *small], axis=-1)
    return words, [x for x in leaves if not _is_small(x, lead)]


def from_words(stored: tuple[chex.Array, list[chex.Array]], like: Any, lead: int) -> Any:
    """The tree of ``to_words``.

    Args:
      stored: words and large leaves; they may have got other first axes since.
      like: a tree of the same structure and dtypes, whose leaves have one first axis.
      lead: number of the first axes of ``stored``.
    """
    words, large = stored
    leaves, tree = jax.tree.flatten(like)
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves if _is_small(leaf, 1)]
    small = iter(jnp.split(words, np.cumsum([0, *sizes])[1:-1], axis=-1))
    rest = iter(large)
    first = words.shape[:lead]
    made = [_from_words(next(small), x, first) if _is_small(x, 1) else next(rest) for x in leaves]
    return jax.tree.unflatten(tree, made)


def _is_small(x: Any, lead: int) -> bool:
    shape: tuple[int, ...] = x.shape
    return math.prod(shape[lead:]) <= MOST


def _as_words(x: chex.Array, lead: int) -> chex.Array:
    x = x.reshape(*x.shape[:lead], math.prod(x.shape[lead:]))
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _from_words(words: chex.Array, like: Any, first: tuple[int, ...]) -> chex.Array:
    if like.dtype == jnp.bool_:
        x = words != 0
    else:
        unsigned = jnp.dtype(f"uint{8 * like.dtype.itemsize}")
        x = jax.lax.bitcast_convert_type(words.astype(unsigned), like.dtype)
    return x.reshape(*first, *like.shape[1:])
