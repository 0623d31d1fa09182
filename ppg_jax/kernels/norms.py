"""The Euclidean norm of a tree of arrays."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

LONG = 4096
"""Elements from which the squares of a leaf are summed in two steps."""
LANES = 16
"""Number of sums in the first step. With more than 32, XLA on CPU compiles a slower loop."""


def global_norm(tree: Any, *, split: bool = False) -> chex.Array:
    """Euclidean norm over all leaves, scalar; ``optax.tree.norm`` to rounding.

    Args:
      tree: arrays.
      split: whether large leaves are first added up to ``LANES`` sums, side by side. On CPU every
        addition in one long sum waits for the one before.
    """
    add_up = _sum_in_two_steps if split else lambda x: jnp.square(x).sum()
    return jnp.sqrt(sum(map(add_up, jax.tree.leaves(tree)), jnp.float32(0.0)))


def _sum_in_two_steps(x: chex.Array) -> chex.Array:
    squares = jnp.square(x)
    if x.size <= LONG or x.size % LANES:
        return squares.sum()
    # The barrier keeps XLA from making one sum of both steps.
    return jax.lax.optimization_barrier(squares.reshape(LANES, -1).sum(0)).sum()
