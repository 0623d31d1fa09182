"""Random permutations by plain sorts, and single keys of a split."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32


def permutations(key: chex.PRNGKey, num_items: int, count: int) -> chex.Array:
    """Independent random orders of ``num_items`` things.

    Numbers whose low bits say which thing they stand for are sorted: with a single operand XLA is
    several times faster than with ``jax.random.permutation``'s pairs. Where the random bits of two
    things agree, what they are called decides, and that is drawn too: either is as likely to come
    first. Of ``2^14`` things one in sixteen meets that; of more it would be too many, and there are
    as many rounds as make random bits of two things differ in one of them but for a probability
    below ``2^-32``.

    Args:
      key: random key.
      num_items: n, at most 2^24.
      count: how many orders.

    Returns:
      int32 ``[count, n]``.

    Raises:
      ValueError: too many items.
    """
    if num_items > 2**24:
        raise ValueError(f"num_items: {num_items} is invalid; it should be at most {2**24}")
    item_bits = max(1, (num_items - 1).bit_length())
    rounds = 1 if item_bits <= 14 else math.ceil(33 / (32 - item_bits))
    mask = np.uint32((1 << item_bits) - 1)
    bits_key, names_key = jax.random.split(key)
    bits = jax.random.bits(bits_key, (rounds, count, num_items), jnp.uint32)
    # What a thing is called: its number with some bits turned over.
    names = jax.random.bits(names_key, (rounds, count, 1), jnp.uint32) & mask
    numbers = jnp.arange(num_items, dtype=jnp.uint32)[None, None]
    labelled = (bits & ~mask) | (numbers ^ names)
    order, *later = ((jax.lax.sort(labelled) ^ names) & mask).astype(jnp.int32)
    for shuffle in later:
        order = jnp.take_along_axis(order, shuffle, axis=1)
    return order


def one_of_split(key: chex.PRNGKey, count: int, index: chex.Array) -> chex.PRNGKey:
    """``jax.random.split(key, count)[index]``, without the other keys where that is possible.

    With JAX's usual keys (threefry, ``jax_threefry_partitionable``) each key of a split is a hash
    of its number. For all others everything is split.

    Args:
      key: random key.
      count: number of keys of the split.
      index: number of the key that is wanted, int32 scalar below ``count``.
    """
    usual = str(jax.random.key_impl(key)) == "threefry2x32"
    if not (usual and jax.config.jax_threefry_partitionable):  # type: ignore[attr-defined]
        return jax.random.split(key, count)[index]
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if typed else key
    number = jnp.stack([jnp.uint32(0), jnp.asarray(index).astype(jnp.uint32)])
    hashed = threefry_2x32(words, number)
    return jax.random.wrap_key_data(hashed, impl="threefry2x32") if typed else hashed
