"""Random numbers at the speed of arithmetic: unrolled Threefry on CPU, permutations by plain sorts.

JAX compiles Threefry on CPU to a loop of tiny operations, which inside a rollout cost more than the
networks do. Written out it is one fused operation, and gives the same bits.
"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random as jax_random

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(
    key: tuple[chex.Array, chex.Array], counter: tuple[chex.Array, chex.Array]
) -> tuple[chex.Array, chex.Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, doi:10.1145/2063384.2063405).

    Args:
      key: two words, uint32, shapes that broadcast with the counter's.
      counter: two words, uint32.

    Returns:
      Two random words, uint32.
    """
    keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    a, b = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        if group == 3:
            # All rounds in one loop are more than LLVM's vectoriser in jaxlib 0.11 comes to an end
            # with: the number of paths through them doubles with every round.
            a, b = jax.lax.optimization_barrier((a, b))
        for rotation in _ROTATIONS[group % 2]:
            a = a + b
            b = a ^ ((b << np.uint32(rotation)) | (b >> np.uint32(32 - rotation)))
        a = a + keys[(group + 1) % 3]
        b = b + keys[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def _counted(key: chex.Array, shape: tuple[int, ...]) -> tuple[chex.Array, chex.Array]:
    """Two words for each place of an array: the hash of the place's number."""
    size = math.prod(shape)
    if size >= 2**32:
        raise NotImplementedError(f"{size} random numbers at once; at most 2^32 - 1")
    place = jnp.arange(size, dtype=jnp.uint32).reshape(shape)
    return threefry((key[0], key[1]), (jnp.zeros_like(place), place))


def _split(key: chex.Array, shape: tuple[int, ...]) -> chex.Array:
    return jnp.stack(_counted(key, tuple(shape)), axis=-1)


def _fold_in(key: chex.Array, data: chex.Array) -> chex.Array:
    word = jnp.asarray(data).astype(jnp.uint32)
    return jnp.stack(threefry((key[0], key[1]), (jnp.zeros_like(word), word)))


def _random_bits(key: chex.Array, bit_width: int, shape: tuple[int, ...]) -> chex.Array:
    high, low = _counted(key, tuple(shape))
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


_UNROLLED = jax_random.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="unrolled_threefry2x32",
    tag="ufry",
)


def fast_key(key: chex.PRNGKey) -> chex.PRNGKey:
    """The same key (or array of keys), whose numbers on CPU come from unrolled Threefry.

    The numbers are those that ``jax.random`` gives for the key itself. Elsewhere than on CPU, and
    for keys of another kind, the key is returned as it came.
    """
    if jax.default_backend() != "cpu" or str(jax.random.key_impl(key)) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)


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
    bits_key, names_key = jax.random.split(fast_key(key))
    bits = jax.random.bits(bits_key, (rounds, count, num_items), jnp.uint32)
    # What a thing is called: its number with some bits turned over.
    names = jax.random.bits(names_key, (rounds, count, 1), jnp.uint32) & mask
    numbers = jnp.arange(num_items, dtype=jnp.uint32)[None, None]
    labelled = (bits & ~mask) | (numbers ^ names)
    order, *later = ((jax.lax.sort(labelled) ^ names) & mask).astype(jnp.int32)
    for shuffle in later:
        order = jnp.take_along_axis(order, shuffle, axis=1)
    return order
