"""Many independent trainings by one compiled program.

A replica is one training: a seed, or a seed with one setting of the hyperparameters. Replicas never
exchange anything, so the program needs no communication. Where a replica runs, and which others run
beside it, changes its numbers by rounding at most.

A batch is the set of replicas that one call of the program trains, on all devices. The host calls
the program for one batch after the other. On CPU as many threads make such calls as there are
cores. There the program is the same for any number of seeds, so a replica has the same bits in all
of them. A loop over batches inside the program (``jax.lax.map``) would copy every leaf of the state
out of and into arrays of all replicas, which adds hundreds of operations to compile. And a program
for several devices would have to be partitioned.
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


def over_replicas(
    fn: Callable[[Any, Any], Any], layout: Layout, *, shared: bool = True
) -> Callable[[Any, Any], Any]:
    """Maps ``fn(first, replica)`` over the replicas of one batch.

    Args:
      fn: pure function of one replica.
      layout: how the replicas run.
      shared: whether the first argument is the same for all replicas. If not, it is mapped too.

    Returns:
      The same function on leaves ``[layout.batch_size, ...]``, for ``jax.jit`` and ``run_batches``.
    """

    def alone(first: Any, replicas: Any) -> Any:
        out = fn(first if shared else _only(first), _only(replicas))
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


def run_batches(
    program: Callable[[Any, Any], Any],
    firsts: Sequence[Any],
    batches: Sequence[Any],
    layout: Layout,
) -> list[Any]:
    """Calls a compiled function (``over_replicas``) for every batch, and waits for all results.

    Args:
      program: compiled.
      firsts: its first argument, for each batch.
      batches: its second argument, for each batch, as ``shard`` makes them.
      layout: how the replicas run.

    Raises:
      Exception: the first one that the program raised; batches not yet begun are skipped.
      KeyboardInterrupt: at once, also while the program runs, because it runs in other threads.
        They finish their current batches.
    """
    done: list[Any] = [None] * layout.num_batches
    left = list(reversed(range(layout.num_batches)))
    settings = jax.config.jax_debug_nans, jax.config.jax_debug_infs  # type: ignore[attr-defined]

    def work() -> None:
        # JAX's context managers set these for one thread only.
        with jax.debug_nans(settings[0]), jax.debug_infs(settings[1]):
            run_batches_left()

    def run_batches_left() -> None:
        while True:
            try:
                batch = left.pop()  # atomic: each batch goes to one thread
            except IndexError:
                return
            with _nan_explained():
                done[batch] = jax.block_until_ready(program(firsts[batch], batches[batch]))

    pool = ThreadPoolExecutor(layout.workers)
    try:
        working = [pool.submit(work) for _ in range(layout.workers)]
        for ended in as_completed(working):
            ended.result()
    finally:
        left.clear()  # after an error or an interrupt
        pool.shutdown(wait=False)
    return done


@contextlib.contextmanager
def _nan_explained() -> Iterator[None]:
    """Turns JAX's error about a NaN in a compiled program into one that says what to do.

    JAX finds the place of a NaN by running a program again, operation by operation. It cannot do
    that with a compiled program.

    Raises:
      FloatingPointError: a program gave NaN or infinity, and JAX was asked to check for it.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InternalFloatingPointError":
            raise
        raise FloatingPointError(
            f"a program gave {error.args[-1]}, which JAX was asked to check for (JAX_DEBUG_NANS or "
            "JAX_DEBUG_INFS); jax.jit(ppg_jax.make_train(config))(key) says in which operation"
        ) from None


def _mesh(layout: Layout) -> Mesh:
    return Mesh(np.array(jax.local_devices()[: layout.devices]), (AXIS,))


def shard(tree: Any, layout: Layout) -> list[Any]:
    """Splits leaves ``[replicas, ...]`` into batches, leaves ``[layout.batch_size, ...]``.

    The batches are placed on their devices. The last batch is filled up with copies of the first
    replica.
    """
    sharding = _sharding(layout, PartitionSpec(AXIS))

    def part(batch: int) -> Any:
        first = batch * layout.batch_size
        replicas = np.arange(first, first + layout.batch_size)
        if replicas[-1] < layout.replicas:
            cut = jax.tree.map(lambda x: x[first : first + layout.batch_size], tree)
        else:
            cut = jax.tree.map(lambda x: x[np.where(replicas < layout.replicas, replicas, 0)], tree)
        return cut if sharding is None else jax.device_put(cut, sharding)

    return [part(batch) for batch in range(layout.num_batches)]


def repeat(tree: Any, layout: Layout) -> list[Any]:
    """The same tree for each batch, copied to all devices once instead of in every call."""
    sharding = _sharding(layout, PartitionSpec())
    return [tree if sharding is None else jax.device_put(tree, sharding)] * layout.num_batches


def placed(tree: Any, layout: Layout) -> Any:
    """Shapes, dtypes and shardings of a result's leaves ``[layout.batch_size, ...]``."""
    sharding = _sharding(layout, PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _sharding(layout: Layout, spec: PartitionSpec) -> NamedSharding | None:
    """The sharding over devices; None for one device."""
    return NamedSharding(_mesh(layout), spec) if layout.devices > 1 else None


def gather(batches: Sequence[Any], layout: Layout) -> Any:
    """The inverse of ``shard``: leaves ``[replicas, ...]`` on the first device."""
    device = jax.local_devices()[0]

    def whole(*parts: Any) -> Any:
        parts = tuple(jax.device_put(x, device) for x in parts)
        return (parts[0] if len(parts) == 1 else jnp.concatenate(parts))[: layout.replicas]

    return jax.tree.map(whole, *batches)
