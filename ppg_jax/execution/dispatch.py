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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppg_jax.execution.layout import Layout

AXIS = "seed"


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
