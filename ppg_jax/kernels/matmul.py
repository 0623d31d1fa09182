"""Several matrix products of the same input as one."""

import itertools
from collections.abc import Callable

import chex
import jax.numpy as jnp


def joined_products(
    multiply: Callable[[chex.Array], chex.Array], kernels: list[chex.Array]
) -> list[chex.Array]:
    """What ``multiply`` makes of each of several kernels ``[F, W]``, as one matrix product.

    XLA on CPU splits a wide product better over cores, the one of the gradient above all.

    Args:
      multiply: ``[F, W] -> [N, W]`` for any W, column by column.
      kernels: of the products wanted.
    """
    product = multiply(jnp.concatenate(kernels, axis=1))
    ends = itertools.accumulate(kernel.shape[1] for kernel in kernels[:-1])
    return jnp.split(product, list(ends), axis=1)
