"""True and false as single bits, eight in a byte."""

import chex
import jax.numpy as jnp


def pack_bits(flags: chex.Array) -> chex.Array:
    """Flags, bool ``[..., n]``, as bits: uint8 ``[..., ceil(n / 8)]``."""
    return jnp.packbits(flags, axis=-1, bitorder="little")


def unpack_bits(packed: chex.Array, n: int) -> chex.Array:
    """The flags of ``pack_bits``, bool ``[..., n]``."""
    return jnp.unpackbits(packed, axis=-1, count=n, bitorder="little").astype(jnp.bool_)
