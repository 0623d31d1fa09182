"""Many independent trainings by one program: together, one after another, in chunks, over devices.

A replica is one training: a seed, or a seed with a setting of the hyperparameters. Replicas never exchange
anything, so the program has no communication, and what a replica computes depends on where and beside
which others it runs by rounding at most.

A batch is the replicas that one call of the program takes, on all devices; the host calls it for one
batch after the other, on CPU for as many at a time as there are cores. There one seed's program is
any number's, and a replica has the same bits in all of them. A loop over batches inside the program
(``jax.lax.map``) would take every part of a replica out of all of them and put it back, hundreds of
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


def over_replicas(
    fn: Callable[[Any, Any], Any], layout: Layout, *, shared: bool = True
) -> Callable[[Any, Any], Any]:
    """Maps ``fn(first, replica)`` over the replicas of one batch, the leading axis of its second argument.

    Args:
      fn: pure function of one replica.
      layout: how the replicas run.
      shared: the first argument is the same for all replicas; otherwise it has the axis too.

    Returns:
      The same function on ``[layout.batch_size, ...]`` leaves, ready for ``jax.jit`` and ``run_batches``.
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
    """What the compiled function of a batch (``over_replicas``) gives for each, when all are done.

    Args:
      program: compiled.
      firsts: its first argument for each batch.
      batches: its second, as ``shard`` makes them.
      layout: how the replicas run.

    Raises:
      Exception: what the program raised first; batches that nobody had begun are left out.
      KeyboardInterrupt: at once, also while the program runs, since that is in other threads; they
        end what they had begun.
    """
    done: list[Any] = [None] * layout.num_batches
    left = list(reversed(range(layout.num_batches)))
    settings = jax.config.jax_debug_nans, jax.config.jax_debug_infs  # type: ignore[attr-defined]

    def work() -> None:
        # Set by a context manager they are the calling thread's alone.
        with jax.debug_nans(settings[0]), jax.debug_infs(settings[1]):
            run_batches_left()

    def run_batches_left() -> None:
        while True:
            try:
                batch = left.pop()  # which one thread alone gets
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
        left.clear()  # if a batch failed, or somebody does not want to wait
        pool.shutdown(wait=False)
    return done


@contextlib.contextmanager
def _nan_explained() -> Iterator[None]:
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


def shard(tree: Any, layout: Layout) -> list[Any]:
    """Leaves ``[replicas, ...]`` to one tree for each batch, leaves ``[layout.batch_size, ...]``.

    They lie on their devices. What the last batch lacks is the first replica again.
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
    """The same tree for each batch, where all devices have it: else every call would send it."""
    sharding = _sharding(layout, PartitionSpec())
    return [tree if sharding is None else jax.device_put(tree, sharding)] * layout.num_batches


def placed(tree: Any, layout: Layout) -> Any:
    """What the leaves ``[layout.batch_size, ...]`` of a result are like, before there is one."""
    sharding = _sharding(layout, PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _sharding(layout: Layout, spec: PartitionSpec) -> NamedSharding | None:
    """How something lies on the devices; None: on one."""
    return NamedSharding(_mesh(layout), spec) if layout.devices > 1 else None


def gather(batches: Sequence[Any], layout: Layout) -> Any:
    """What ``shard`` dealt out, or was made of it, as leaves ``[replicas, ...]`` on the first device."""
    device = jax.local_devices()[0]

    def whole(*parts: Any) -> Any:
        parts = tuple(jax.device_put(x, device) for x in parts)
        return (parts[0] if len(parts) == 1 else jnp.concatenate(parts))[: layout.replicas]

    return jax.tree.map(whole, *batches)
