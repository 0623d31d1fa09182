"""Many independent trainings by one program: together, in turn, in chunks, over devices.

A row is one training: a seed, or a seed with a setting of the hyperparameters. Rows never exchange
anything, so the program has no communication, and what a row computes depends on where and beside
which others it runs by rounding at most.

A turn is the rows that one call of the program takes, on all devices; the host calls it for one
turn after the other, on CPU for as many at a time as there are cores. There one seed's program is
any number's, and a row has the same bits in all of them. A loop over turns inside the program
(``jax.lax.map``) would take every part of a row out of all of them and put it back, hundreds of
operations more to compile, and a program for several devices has to be partitioned as well.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppg_jax.config import Config
from ppg_jax.train import build

AXIS = "seed"
LLVM_LEVEL = "1"
"""LLVM's optimisation level for programs of the host on CPU, ``"0"`` to ``"3"``."""
VMAP_LIMIT = 128
"""Rows that ``auto`` lets an accelerator run together at most; more go in chunks."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where and how rows run.

    Attributes:
      strategy: ``vmap`` (together), ``map`` (in turn) or ``chunk`` (in turn, some together).
      devices: how many of JAX's share the rows; each runs its part by the strategy.
      chunk_size: rows that run together on a device.
      rows: how many there are.
      workers: turns that run at a time, each called by a thread of its own; 1 but on CPU.
    """

    strategy: Literal["vmap", "map", "chunk"]
    devices: int
    chunk_size: int
    rows: int
    workers: int = 1

    @property
    def turn(self) -> int:
        """Rows that one call takes, on all devices."""
        return self.chunk_size * self.devices

    @property
    def turns(self) -> int:
        """How often a turn runs until all rows have; the last may not be full."""
        return math.ceil(self.rows / self.turn)

    def __str__(self) -> str:
        how = f"{self.strategy} of {self.chunk_size}" if self.strategy == "chunk" else self.strategy
        if self.workers > 1:
            return f"{how}, {self.workers} at a time"
        return how + (f" on {self.devices} devices" if self.devices > 1 else "")


def by_threads(config: Config) -> bool:
    """Whether rows are shared by threads that call the program, instead of by JAX's devices.

    So it is on CPU, where JAX computes on all cores whatever devices it counts. Rows in a ``vmap``
    are one call, which only devices can share.
    """
    return jax.default_backend() == "cpu" and config.strategy != "vmap"


def choose_layout(config: Config, rows: int, cores: int | None = None) -> Layout:
    """How a number of rows of a configuration run on this machine.

    What the configuration leaves open is chosen so:

    - on CPU ``map``: one row fills a core, and batching over parameters only makes its matrix
      products, convolutions and working set worse (``benchmarks/seeds.py``). As many threads call
      the program as there are cores; only a ``vmap`` is spread over JAX's devices.
    - elsewhere ``vmap`` on as many devices as shorten the work, since small networks leave most of
      an accelerator idle; where a device had more than ``VMAP_LIMIT`` rows, or more than its memory
      may hold, ``chunk``.

    Args:
      config: what to train.
      rows: how many trainings.
      cores: of the CPU; default as many as JAX counts devices.

    Raises:
      ConfigError: the environment of ``config`` cannot be made.
    """
    on_cpu, strategy = jax.default_backend() == "cpu", config.strategy
    if strategy == "auto" and on_cpu:
        strategy = "map"
    elif strategy == "auto" and config.chunk_size:
        strategy = "chunk"
    devices = workers = 1
    if by_threads(config):
        workers = min(config.devices or cores or jax.local_device_count(), rows)
    else:
        devices = min(config.devices or jax.local_device_count(), rows)
        if config.devices is None:  # nine rows keep eight devices no less long than five
            devices = math.ceil(rows / math.ceil(rows / devices))
    share = math.ceil(rows / devices / workers)
    together = _most_together(config) if strategy in ("auto", "chunk") else 1
    if strategy == "auto":
        strategy = "vmap" if share <= together else "chunk"
    size = {"map": 1, "vmap": share, "chunk": min(config.chunk_size or together, share)}[strategy]
    if strategy == "chunk":  # as equal as they can be
        size = math.ceil(share / math.ceil(share / size))
    layout = Layout(strategy, devices, size, rows, workers)
    return dataclasses.replace(layout, workers=min(workers, layout.turns))


def _most_together(config: Config) -> int:
    """Rows to run together on a device: what they store of a phase fills at most half of it."""
    memory = _device_memory()
    if memory is None:
        return VMAP_LIMIT
    seen = build(config)[0].observation
    observation = math.prod(seen.shape) * jnp.dtype(seen.dtype).itemsize
    # A rollout holds every observation and its successor, and some sixteen numbers beside them.
    each = config.steps_per_iteration * (2 * observation + 64)
    if config.e_aux:
        each += config.n_pi * config.steps_per_iteration * observation
    return max(1, min(VMAP_LIMIT, memory // 2 // each))


def _device_memory() -> int | None:
    """Bytes that JAX may take of a device's memory, where it says."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def compiler_options() -> dict[str, str] | None:
    """What to tell XLA when compiling a run, for ``jax.jit(..., compiler_options=...)``.

    On CPU much of the compile time is LLVM's. At its first optimisation level a run compiles 10 to
    20% sooner, is as fast and gives the same bits (``benchmarks/compile_time.py``).
    """
    level = {"xla_backend_optimization_level": LLVM_LEVEL}
    return level if jax.default_backend() == "cpu" else None


def over_rows(
    fn: Callable[[Any, Any], Any], layout: Layout, *, shared: bool = True
) -> Callable[[Any, Any], Any]:
    """Maps ``fn(first, row)`` over the rows of one turn, the leading axis of its second argument.

    Args:
      fn: pure function of one row.
      layout: how the rows run.
      shared: the first argument is the same for all rows; otherwise it has the axis too.

    Returns:
      The same function on ``[layout.turn, ...]`` leaves, ready for ``jax.jit`` and ``in_turns``.
    """

    def alone(first: Any, rows: Any) -> Any:
        out = fn(first if shared else _only(first), _only(rows))
        return jax.tree.map(lambda x: x.reshape(1, *x.shape), out)

    together = jax.vmap(fn, in_axes=(None if shared else 0, 0))
    on_one_device = alone if layout.strategy == "map" else together
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


def _only(tree: Any) -> Any:
    """Leaves ``[1, ...] -> [...]``."""
    return jax.tree.map(lambda x: x.reshape(x.shape[1:]), tree)


def in_turns(
    program: Callable[[Any, Any], Any], firsts: Sequence[Any], turns: Sequence[Any], layout: Layout
) -> list[Any]:
    """What the compiled function of a turn (``over_rows``) gives for each, when all are done.

    Args:
      program: compiled.
      firsts: its first argument for each turn.
      turns: its second, as ``deal`` makes them.
      layout: how the rows run.

    Raises:
      Exception: what the program raised first; turns that nobody had begun are left out.
      KeyboardInterrupt: at once, also while the program runs, since that is in other threads; they
        end what they had begun.
    """
    done: list[Any] = [None] * layout.turns
    left = list(reversed(range(layout.turns)))
    settings = jax.config.jax_debug_nans, jax.config.jax_debug_infs  # type: ignore[attr-defined]

    def work() -> None:
        # Set by a context manager they are the calling thread's alone.
        with jax.debug_nans(settings[0]), jax.debug_infs(settings[1]):
            take_turns()

    def take_turns() -> None:
        while True:
            try:
                turn = left.pop()  # which one thread alone gets
            except IndexError:
                return
            with _found_nan_said():
                done[turn] = jax.block_until_ready(program(firsts[turn], turns[turn]))

    pool = ThreadPoolExecutor(layout.workers)
    try:
        working = [pool.submit(work) for _ in range(layout.workers)]
        for ended in as_completed(working):
            ended.result()
    finally:
        left.clear()  # if a turn failed, or somebody does not want to wait
        pool.shutdown(wait=False)
    return done


@contextlib.contextmanager
def _found_nan_said() -> Iterator[None]:
    """What JAX_DEBUG_NANS finds in a compiled program, as an error that one can act on.

    JAX itself would compute the program again, operation by operation, to say where; of a compiled
    one it only says that.

    Raises:
      FloatingPointError: a program gave NaN or infinity, and JAX was told to look for it.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InternalFloatingPointError":
            raise
        raise FloatingPointError(
            f"a program gave {error.args[-1]}, which JAX was told to look for (JAX_DEBUG_NANS or "
            "JAX_DEBUG_INFS); jax.jit(ppg_jax.make_train(config))(key) says in which operation"
        ) from None


def _mesh(layout: Layout) -> Mesh:
    return Mesh(np.array(jax.local_devices()[: layout.devices]), (AXIS,))


def deal(tree: Any, layout: Layout) -> list[Any]:
    """Leaves ``[rows, ...]`` to one tree for each turn, leaves ``[layout.turn, ...]``.

    They lie on their devices. What the last turn lacks is the first row again.
    """
    sharding = _sharding(layout, PartitionSpec(AXIS))

    def part(turn: int) -> Any:
        first = turn * layout.turn
        rows = np.arange(first, first + layout.turn)
        if rows[-1] < layout.rows:
            cut = jax.tree.map(lambda x: x[first : first + layout.turn], tree)
        else:
            cut = jax.tree.map(lambda x: x[np.where(rows < layout.rows, rows, 0)], tree)
        return cut if sharding is None else jax.device_put(cut, sharding)

    return [part(turn) for turn in range(layout.turns)]


def repeat(tree: Any, layout: Layout) -> list[Any]:
    """The same tree for each turn, where all devices have it: else every call would send it."""
    sharding = _sharding(layout, PartitionSpec())
    return [tree if sharding is None else jax.device_put(tree, sharding)] * layout.turns


def placed(tree: Any, layout: Layout) -> Any:
    """What the leaves ``[layout.turn, ...]`` of a result are like, before there is one."""
    sharding = _sharding(layout, PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _sharding(layout: Layout, spec: PartitionSpec) -> NamedSharding | None:
    """How something lies on the devices; None: on one."""
    return NamedSharding(_mesh(layout), spec) if layout.devices > 1 else None


def collect(turns: Sequence[Any], layout: Layout) -> Any:
    """What ``deal`` dealt out, or was made of it, as leaves ``[rows, ...]`` on the first device."""
    device = jax.local_devices()[0]

    def whole(*parts: Any) -> Any:
        parts = tuple(jax.device_put(x, device) for x in parts)
        return (parts[0] if len(parts) == 1 else jnp.concatenate(parts))[: layout.rows]

    return jax.tree.map(whole, *turns)
