"""Several matrix products with the same left-hand side, computed as one product."""

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
