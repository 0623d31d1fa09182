"""Matrix products of several kernels at once, and of narrow kernels, for XLA on CPU."""

import itertools
from collections.abc import Callable

import chex
import jax.numpy as jnp


def joined_products(
    multiply: Callable[[chex.Array], chex.Array], kernels: list[chex.Array]
) -> list[chex.Array]:
    """``[multiply(kernel) for kernel in kernels]``, with a single call of ``multiply``.

    XLA on CPU splits one wide product over cores better than several narrow ones. This helps the
    gradient most.

    Args:
      multiply: a matrix product ``[F, W] -> [N, W]`` for any W.
      kernels: ``[F, W_i]``.

    Returns:
      The products ``[N, W_i]``.
    """
    product = multiply(jnp.concatenate(kernels, axis=1))
    ends = itertools.accumulate(kernel.shape[1] for kernel in kernels[:-1])
    return jnp.split(product, list(ends), axis=1)


NARROW = 6
"""Largest number of columns for which a kernel is multiplied column by column."""


def narrow_product(x: chex.Array, kernel: chex.Array) -> chex.Array:
    """``x [..., F] @ kernel [F, W]``, column by column if the kernel is narrow.

    XLA on CPU computes products with a few columns, such as those of heads, by plain loops. The
    slow part is the gradient. By columns it consists of matrix-vector products and outer products.
    """
    width = kernel.shape[1]
    if not 1 < width <= NARROW:
        return x @ kernel
    return jnp.stack([x @ kernel[:, i] for i in range(width)], axis=-1)
