"""A tree of arrays as one vector, and the norms of its parts, for accelerators."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

ROW = 1024
"""Numbers in a row. A row belongs to one part, so that norms of parts are sums over rows."""

Parts = Callable[[Any], dict[str, Any]]
"""Names parts of a tree like the parameters."""


@dataclasses.dataclass(frozen=True)
class FlatTree:
    """How a tree becomes a vector ``[P]``: leaves part by part, each part filled up to whole rows.

    Attributes:
      like: shapes and dtypes of the tree.
      groups: numbers of the leaves, in the order of the vector; a group fills whole rows.
      named: for each part the groups that it consists of.
    """

    like: Any
    groups: tuple[tuple[int, ...], ...]
    named: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, tree: Any, parts: Parts) -> "FlatTree":
        """For trees with these shapes, and norms of these parts."""
        leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: tree))
        numbers = jax.tree.unflatten(structure, range(len(leaves)))
        members = {name: set(jax.tree.leaves(part)) for name, part in parts(numbers).items()}
        groups: dict[tuple[str, ...], list[int]] = {}
        for i in range(len(leaves)):
            groups.setdefault(tuple(n for n in members if i in members[n]), []).append(i)
        named = {n: tuple(g for g, names in enumerate(groups) if n in names) for n in members}
        like = jax.tree.unflatten(structure, leaves)
        return cls(like, tuple(map(tuple, groups.values())), named)

    @property
    def _rows(self) -> list[int]:
        """Number of rows of each group."""
        leaves = jax.tree.leaves(self.like)
        sizes = [sum(math.prod(leaves[i].shape) for i in group) for group in self.groups]
        return [-(-size // ROW) for size in sizes]

    def join(self, tree: Any) -> chex.Array:
        """The vector of a tree."""
        leaves, pieces = jax.tree.leaves(tree), []
        for group, rows in zip(self.groups, self._rows, strict=True):
            pieces += [leaves[i].reshape(-1) for i in group]
            empty = rows * ROW - sum(leaves[i].size for i in group)
            pieces.append(jnp.zeros(empty, jnp.float32))
        return jnp.concatenate(pieces)

    def split(self, vector: chex.Array) -> Any:
        """The tree of a vector."""
        leaves, structure = jax.tree.flatten(self.like)
        start = 0
        first: dict[int, int] = {}
        for group, rows in zip(self.groups, self._rows, strict=True):
            ends = start + np.cumsum([0, *(math.prod(leaves[i].shape) for i in group)])
            first |= dict(zip(group, ends.tolist(), strict=False))
            start += rows * ROW
        cut = [vector[first[i] : first[i] + math.prod(x.shape)] for i, x in enumerate(leaves)]
        shaped = [piece.reshape(x.shape) for piece, x in zip(cut, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    def norms(self, vector: chex.Array) -> tuple[chex.Array, dict[str, chex.Array]]:
        """Euclidean norms of a whole vector and of its parts, scalars."""
        squares = jnp.square(vector.reshape(-1, ROW)).sum(1)
        of_row = np.repeat(np.arange(len(self.groups)), self._rows)
        norms = {}
        for name, groups in self.named.items():
            mine = np.isin(of_row, groups)
            norms[name] = jnp.sqrt(jnp.where(mine, squares, 0.0).sum())
        return jnp.sqrt(squares.sum()), norms
