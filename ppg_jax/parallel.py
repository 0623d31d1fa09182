"""Many independent trainings in one program: together, in turn, in chunks, over devices.

A row is one training: a seed, or a seed with a setting of the hyperparameters. Rows never exchange
anything, so the program has no communication, and what a row computes depends on where and beside
which others it runs by rounding at most.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppg_jax.config import Config

AXIS = "seed"
LLVM_LEVEL = "1"
"""LLVM's optimisation level for programs of the host on CPU, ``"0"`` to ``"3"``."""
VMAP_LIMIT = 128
"""Rows that ``auto`` lets an accelerator run together; more go in chunks of this size."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where and how rows run.

    Attributes:
      strategy: ``vmap`` (together), ``map`` (in turn) or ``chunk`` (in turn, some together).
      devices: how many share the rows; each runs its part by the strategy.
      chunk_size: rows that run together on a device.
      rows: how many there are.
    """

    strategy: Literal["vmap", "map", "chunk"]
    devices: int
    chunk_size: int
    rows: int

    @property
    def slots(self) -> int:
        """Rows with those added that fill every device and chunk evenly."""
        return math.ceil(self.rows / self.devices / self.chunk_size) * (
            self.chunk_size * self.devices
        )

    def __str__(self) -> str:
        how = f"{self.strategy} of {self.chunk_size}" if self.strategy == "chunk" else self.strategy
        return how + (f" on {self.devices} devices" if self.devices > 1 else "")


def choose_layout(config: Config, rows: int) -> Layout:
    """How a number of rows of a configuration run on this machine.

    What the configuration leaves open is chosen so:

    - devices: of those JAX has as many as shorten the work.
    - on CPU ``map``: one row fills a core, and batching over parameters only makes its matrix
      products, convolutions and working set worse (``benchmarks/seeds.py``).
    - elsewhere ``vmap``, since small networks leave most of an accelerator idle; from
      ``VMAP_LIMIT`` rows a device on ``chunk``, which bounds the memory.
    """
    devices = min(config.devices or jax.local_device_count(), rows)
    if config.devices is None:  # nine rows keep eight devices no less long than five
        devices = math.ceil(rows / math.ceil(rows / devices))
    share = math.ceil(rows / devices)
    strategy = _best_strategy(config, share) if config.strategy == "auto" else config.strategy
    size = {"map": 1, "vmap": share, "chunk": min(config.chunk_size or VMAP_LIMIT, share)}[strategy]
    if strategy == "chunk":  # as equal as they can be
        size = math.ceil(share / math.ceil(share / size))
    return Layout(strategy, devices, size, rows)


def _best_strategy(config: Config, share: int) -> Literal["vmap", "map", "chunk"]:
    if config.chunk_size:
        return "chunk"
    if jax.default_backend() == "cpu":
        return "map"
    return "vmap" if share <= VMAP_LIMIT else "chunk"


def compiler_options() -> dict[str, str] | None:
    """What to tell XLA when compiling a run, for ``jax.jit(..., compiler_options=...)``.

    On CPU much of the compile time is LLVM's. At its first optimisation level a run compiles 10 to
    20% sooner, is as fast and gives the same bits (``benchmarks/compile_time.py``).
    """
    level = {"xla_backend_optimization_level": LLVM_LEVEL}
    return level if jax.default_backend() == "cpu" else None


def over_rows(
    fn: Callable[[Any, Any], Any], layout: Layout, *, shared: bool = True, in_place: bool = False
) -> Callable[[Any, Any], Any]:
    """Maps ``fn(first, row)`` over the leading axis of its second argument.

    Args:
      fn: pure function of one row.
      layout: how the rows run.
      shared: the first argument is the same for all rows; otherwise it has the axis too.
      in_place: ``fn`` returns what has become of its row, and something else. Rows that run in turn
        are then written over what they were: there is one copy of them all, not two.

    Returns:
      The same function on ``[layout.slots, ...]`` leaves (``fill``), ready for ``jax.jit``.
    """
    together = jax.vmap(fn, in_axes=(None if shared else 0, 0))
    in_turn = _each_in_place if in_place else _each

    def on_one_device(first: Any, rows: Any) -> Any:
        if layout.strategy == "vmap":
            return together(first, rows)
        if layout.strategy == "map":
            return in_turn(fn, first, rows, shared)
        first = first if shared else _cut(first, layout.chunk_size)
        out = in_turn(together, first, _cut(rows, layout.chunk_size), shared)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    if layout.devices == 1:
        return on_one_device
    split = PartitionSpec(AXIS)
    return jax.shard_map(
        on_one_device,
        mesh=_mesh(layout),
        in_specs=(PartitionSpec() if shared else split, split),
        out_specs=split,
        check_vma=False,
    )


def _each(fn: Callable[[Any, Any], Any], first: Any, rows: Any, shared: bool) -> Any:
    """``fn`` of one row (or chunk of rows) after the other."""
    if shared:
        return jax.lax.map(lambda row: fn(first, row), rows)
    return jax.lax.map(lambda both: fn(*both), (first, rows))


def _each_in_place(fn: Callable[[Any, Any], Any], first: Any, rows: Any, shared: bool) -> Any:
    """Likewise, where ``fn`` returns the row that takes its row's place, and the rest."""
    # To allow negative indices would be three operations more for each of some hundred leaves.
    take = functools.partial(
        jax.lax.dynamic_index_in_dim, keepdims=False, allow_negative_indices=False
    )
    put = functools.partial(jax.lax.dynamic_update_index_in_dim, allow_negative_indices=False)

    def step(rows: Any, number: chex.Array):
        def here(tree: Any) -> Any:
            return jax.tree.map(lambda x: take(x, number), tree)

        row, rest = fn(first if shared else here(first), here(rows))
        return jax.tree.map(lambda x, new: put(x, new, number, 0), rows, row), rest

    return jax.lax.scan(step, rows, jnp.arange(len(jax.tree.leaves(rows)[0])))


def _cut(rows: Any, size: int) -> Any:
    """Leaves ``[rows, ...] -> [chunks, size, ...]``."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)


def _mesh(layout: Layout) -> Mesh:
    return Mesh(np.array(jax.local_devices()[: layout.devices]), (AXIS,))


def fill(tree: Any, layout: Layout) -> Any:
    """Leaves ``[rows, ...]`` to ``[slots, ...]``, by repeating the first row, on their devices."""
    extra = layout.slots - layout.rows
    if extra:
        tree = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[:1], extra, 0)]), tree)
    sharding = _sharding(layout)
    return tree if sharding is None else jax.device_put(tree, sharding)


def placed(tree: Any, layout: Layout) -> Any:
    """What the leaves ``[slots, ...]`` of a result are like, before there is one."""
    sharding = _sharding(layout)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _sharding(layout: Layout) -> NamedSharding | None:
    """How rows lie on the devices; None: on one."""
    return NamedSharding(_mesh(layout), PartitionSpec(AXIS)) if layout.devices > 1 else None


def collect(tree: Any, layout: Layout) -> Any:
    """Leaves ``[slots, ...]`` of any placement to ``[rows, ...]`` on the first device."""
    device = jax.local_devices()[0]
    return jax.tree.map(lambda x: jax.device_put(x, device)[: layout.rows], tree)
