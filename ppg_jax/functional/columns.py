"""Arrays with one axis for all their columns; those that are 0 or 1 may be single bits."""

import dataclasses
import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.functional.bits import pack_bits, unpack_bits


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of flattened arrays ``[..., *shape]`` are kept as bits. Hashable.

    Attributes:
      shape: shape of one array.
      dtype: name of its dtype.
      binary: whether a column is always 0 or 1, one bool for each of ``prod(shape)``.
    """

    shape: tuple[int, ...]
    dtype: str
    binary: tuple[bool, ...]

    @classmethod
    def flat(cls, shape: tuple[int, ...], dtype: Any) -> "Columns":
        """No bits: arrays are only flattened."""
        return cls(shape, jnp.dtype(dtype).name, (False,) * math.prod(shape))

    def __post_init__(self) -> None:
        assert len(self.binary) == math.prod(self.shape)

    # Hashing thousands of columns at every comparison of trees would be slow.
    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.shape, self.dtype, self.binary))

    def __hash__(self) -> int:
        return self._hash

    @property
    def count(self) -> int:
        """Number of binary columns."""
        return sum(self.binary)

    @property
    def nbytes(self) -> int:
        """Bytes of one packed array."""
        rest = len(self.binary) - self.count
        return -(-self.count // 8) + rest * jnp.dtype(self.dtype).itemsize

    def pack(self, x: chex.Array) -> "PackedColumns":
        """Packs ``[..., *shape]``. What ``lost`` counts is not kept."""
        flat = self._flat(x)
        if not self.count:
            return PackedColumns(None, flat, self)
        mask = np.array(self.binary)
        rest = None if mask.all() else _taken(flat, np.flatnonzero(~mask))
        flags = _taken(flat, np.flatnonzero(mask))
        return PackedColumns(
            pack_bits(flags if flags.dtype == jnp.bool_ else flags == 1), rest, self
        )

    def unpack(self, packed: "PackedColumns") -> chex.Array:
        """What was packed, ``[..., *shape]``, bit for bit."""
        if packed.bits is None:
            assert packed.rest is not None
            return packed.rest.reshape(*packed.rest.shape[:-1], *self.shape)
        flags = unpack_bits(packed.bits, self.count).astype(self.dtype)
        if packed.rest is not None:
            mask = np.array(self.binary)
            place = np.argsort(np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)]))
            flags = _taken(jnp.concatenate([flags, packed.rest], axis=-1), place)
        return flags.reshape(*flags.shape[:-1], *self.shape)

    def lost(self, x: chex.Array) -> chex.Array:
        """Which of ``[..., *shape]`` packing would change, bool ``[...]``.

        Bits are compared: -0.0 and NaN are neither 0 nor 1.
        """
        flat = self._flat(x)
        if flat.dtype == jnp.bool_:
            return jnp.zeros(flat.shape[:-1], jnp.bool_)
        bits = as_bits(_taken(flat, np.flatnonzero(np.array(self.binary))))
        zero, one = (as_bits(jnp.asarray(n, flat.dtype)) for n in (0, 1))
        return ((bits != zero) & (bits != one)).any(-1)

    def _flat(self, x: chex.Array) -> chex.Array:
        lead = x.shape[: x.ndim - len(self.shape)]
        return x.reshape(*lead, len(self.binary))


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["bits", "rest"], meta_fields=["columns"]
)
@dataclasses.dataclass(frozen=True)
class PackedColumns:
    """Arrays as ``Columns.pack`` leaves them.

    Attributes:
      bits: the binary columns, uint8 ``[..., ceil(n / 8)]``; None if there are none.
      rest: all other columns in their own dtype, ``[..., k]``; None if there are none.
      columns: which is which.
    """

    bits: chex.Array | None
    rest: chex.Array | None
    columns: Columns


def unpack_all(tree: Any) -> Any:
    """A tree with every ``PackedColumns`` in it unpacked."""

    def unpack(x: Any) -> Any:
        return x.columns.unpack(x) if isinstance(x, PackedColumns) else x

    return jax.tree.map(unpack, tree, is_leaf=lambda x: isinstance(x, PackedColumns))


def as_bits(x: chex.Array) -> chex.Array:
    """Numbers as unsigned integers of the same bits; bools as uint8."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint8)
    kind = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[x.dtype.itemsize]
    return jax.lax.bitcast_convert_type(x, kind)


def _taken(x: chex.Array, index: np.ndarray) -> chex.Array:
    """``x[..., index]`` by slices, where a few do."""
    cuts = np.split(index, np.flatnonzero(np.diff(index) != 1) + 1)
    if len(cuts) > 8:
        return jnp.take(x, index, axis=-1, mode="clip")
    pieces = [x[..., cut[0] : cut[-1] + 1] for cut in cuts]
    return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces, axis=-1)
