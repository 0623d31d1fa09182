"""Category numbers as one-hot vectors."""

import chex
import jax
import jax.numpy as jnp


def one_hot(numbers: chex.Array, sizes: tuple[int, ...], shape: tuple[int, ...]) -> chex.Array:
    """Category numbers one-hot. A number that is not a category becomes zeros.

    Args:
      numbers: whole numbers ``[..., *shape]`` that count from 0.
      sizes: number of categories of each component of the flattened ``shape``.
      shape: shape of one observation.

    Returns:
      float32 ``[..., sum(sizes)]``, a block for each component. If the categories are the same in
      all places of a grid ``[..., C]``, it is ``[..., *shape[:-1], sum of the C sizes]``.
    """
    if not shape:
        return jax.nn.one_hot(numbers, sizes[0])
    lead = numbers.shape[: numbers.ndim - len(shape)]
    channels = grid_sizes(sizes, shape)
    if channels:
        blocks = [jax.nn.one_hot(numbers[..., i], n) for i, n in enumerate(channels)]
        return jnp.concatenate(blocks, axis=-1)
    flat = numbers.reshape(*lead, -1)
    columns = [jax.nn.one_hot(flat[..., i], n) for i, n in enumerate(sizes)]
    return jnp.concatenate(columns, axis=-1)


def grid_sizes(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Categories of each channel of a grid ``[..., C]``; () if places differ, or it is no grid."""
    channels = sizes[: shape[-1]] if len(shape) > 1 else ()
    return channels if channels and sizes == channels * (len(sizes) // len(channels)) else ()
