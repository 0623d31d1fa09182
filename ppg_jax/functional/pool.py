"""Means over data that is spread over groups, each of which sees only its own part."""

import dataclasses
from typing import Any

import chex
import jax
from jax.flatten_util import ravel_pytree


@dataclasses.dataclass(frozen=True)
class Pool:
    """Groups of equal size that run the same program on parts of the data.

    The groups are the places along mapped axes (``jax.vmap``, ``jax.shard_map``). Without axes
    there is a single group, and nothing is exchanged.

    Attributes:
      axes: names of the mapped axes.
      size: number of groups.
    """

    axes: tuple[str, ...] = ()
    size: int = 1

    def mean(self, tree: Any) -> Any:
        """Means of float32 leaves over the groups, exchanged as one vector."""
        if not self.axes or not jax.tree.leaves(tree):
            return tree
        vector, split = ravel_pytree(tree)
        return split(jax.lax.pmean(vector, self.axes))

    def sum(self, tree: Any) -> Any:
        """Sums of all leaves over the groups."""
        return jax.lax.psum(tree, self.axes) if self.axes else tree

    def max(self, tree: Any) -> Any:
        """The largest value of each leaf over the groups."""
        return jax.lax.pmax(tree, self.axes) if self.axes else tree

    def moments(self, x: chex.Array, axis: Any = None) -> tuple[chex.Array, chex.Array]:
        """Mean and population variance over the groups and over some axes of ``x``."""
        if not self.axes:
            return x.mean(axis), x.var(axis)
        mean = self.mean(x.mean(axis, keepdims=True))
        var = self.mean(jax.numpy.square(x - mean).mean(axis))
        return mean.reshape(var.shape), var


ALONE = Pool()
"""One group that has all data."""
