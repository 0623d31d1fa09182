"""Runs many independent trainings with one compiled program, in batches and over devices.

A replica is one training: a seed, or a seed with one setting of the hyperparameters. Replicas do
not exchange data, so the program needs no communication. The device and the other replicas in the
batch change the result of a replica by rounding at most.

A batch is the replicas that one call of the program runs, on all devices. The host calls the
program once for each batch; on CPU, as many calls run at the same time as there are cores. On CPU
the same program serves any number of seeds, and a replica has the same bits in all cases.

The loop over batches is not in the program (``jax.lax.map``). It would have to slice every part of
a replica out of all batches and write it back. That is hundreds of operations more to compile, and
with several devices the program would have to be partitioned too.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppg_jax.algorithm import by_environment
from ppg_jax.envs import outside_error
from ppg_jax.execution.layout import ENV_AXIS, Layout
from ppg_jax.execution.memory import out_of_memory, too_large
from ppg_jax.types import TrainState

SEED_AXIS = "seed"
"""Name of the mesh axis over which replicas are spread."""


def over_replicas(
    fn: Callable[[Any, Any], Any], layout: Layout, *, shared: bool = True, like: Any = None
) -> Callable[[Any, Any], Any]:
    """Maps ``fn(first, replica)`` over the replicas of one batch.

    Args:
      fn: pure function of one replica.
      layout: layout of the replicas.
      shared: whether the first argument is the same for all replicas. Otherwise its leaves have the
        replica axis too.
      like: a training state whose structure says which leaves are spread over devices that share a
        replica. Then ``fn`` returns a state and metrics. None: nothing is spread like this.

    Returns:
      The function for leaves ``[layout.batch_size, ...]``, ready for ``jax.jit`` and
      ``run_batches``.
    """

    def alone(first: Any, replicas: Any) -> Any:
        out = fn(first if shared else _only(first), _only(replicas))
        return jax.tree.map(lambda x: x.reshape(1, *x.shape), out)

    together = jax.vmap(fn, in_axes=(None if shared else 0, 0))
    on_one_device = alone if layout.strategy == "map" else together
    if layout.devices == 1:
        return on_one_device
    split = PartitionSpec(SEED_AXIS)
    state = _specs(like, layout)

    def on_all_devices(first: Any, replicas: Any) -> Any:
        return jax.shard_map(
            on_one_device,
            mesh=_mesh(layout),
            in_specs=(PartitionSpec() if shared else split, _specs(replicas, layout)),
            out_specs=split if like is None else (state, split),
            check_vma=False,
        )(first, replicas)

    return on_all_devices


def _specs(tree: Any, layout: Layout) -> Any:
    """How leaves ``[layout.batch_size, ...]`` lie on the devices, as a prefix of the tree.

    Only training states have leaves that are spread over devices that share a replica.
    """
    split = PartitionSpec(SEED_AXIS)
    if not isinstance(tree, TrainState) or layout.env_axis is None:
        return split
    return by_environment(tree, own=PartitionSpec(SEED_AXIS, layout.env_axis), same=split)


def _only(tree: Any) -> Any:
    """Removes the leading axis of length 1 from all leaves."""
    return jax.tree.map(lambda x: x.reshape(x.shape[1:]), tree)


def run_batches(
    program: Callable[[Any, Any], Any],
    firsts: Sequence[Any],
    batches: Sequence[Any],
    layout: Layout,
) -> list[Any]:
    """Calls a compiled program (of ``over_replicas``) for every batch and waits for the results.

    Args:
      program: compiled program of a batch.
      firsts: first argument of the program, for each batch.
      batches: second argument of the program, for each batch, as made by ``shard``.
      layout: layout of the replicas.

    Returns:
      Result of the program for each batch.

    Raises:
      Exception: the first exception that the program raised. Batches that had not begun are not
        run.
      KeyboardInterrupt: raised at once, even while the program runs, because it runs in other
        threads. These finish the batches that they had begun.
    """
    done: list[Any] = [None] * layout.num_batches
    left = list(reversed(range(layout.num_batches)))
    settings = jax.config.jax_debug_nans, jax.config.jax_debug_infs  # type: ignore[attr-defined]

    def work() -> None:
        # If a context manager set these, they apply only to the calling thread.
        with jax.debug_nans(settings[0]), jax.debug_infs(settings[1]):
            run_batches_left()

    def run_batches_left() -> None:
        while True:
            try:
                batch = left.pop()  # atomic: no two threads get the same batch
            except IndexError:
                return
            with explained(layout):
                done[batch] = jax.block_until_ready(program(firsts[batch], batches[batch]))

    pool = ThreadPoolExecutor(layout.workers)
    try:
        working = [pool.submit(work) for _ in range(layout.workers)]
        for ended in as_completed(working):
            ended.result()
    finally:
        left.clear()  # after a failure or an interrupt no further batch begins
        pool.shutdown(wait=False)
    return done


@contextlib.contextmanager
def explained(layout: Layout) -> Iterator[None]:
    """Turns errors of compiling or running a program into errors with a remedy.

    With JAX_DEBUG_NANS, JAX runs a jitted function again operation by operation to find the place.
    For a compiled program it only reports that there was a NaN.

    Raises:
      FloatingPointError: a program produced NaN or infinity, and JAX checks for it.
      ConfigError: memory does not suffice, or environments outside of the program failed.
    """
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise too_large(layout, str(error)) from None
        if (problem := outside_error(error)) is not None:
            raise problem from None
        if type(error).__name__ != "InternalFloatingPointError":
            raise
        raise FloatingPointError(
            f"a program produced {error.args[-1]}, and JAX checks for it (JAX_DEBUG_NANS or "
            "JAX_DEBUG_INFS); jax.jit(ppg_jax.make_train(config))(key) shows in which operation"
        ) from None


def _mesh(layout: Layout) -> Mesh:
    devices = np.array(jax.local_devices()[: layout.devices])
    return Mesh(devices.reshape(layout.places, -1), (SEED_AXIS, ENV_AXIS))


def shard(tree: Any, layout: Layout) -> list[Any]:
    """Splits leaves ``[replicas, ...]`` into batches with leaves ``[layout.batch_size, ...]``.

    The batches are placed on their devices. The last batch is padded with copies of the first
    replica.
    """
    sharding = _shardings(tree, layout)

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
    """The same tree for each batch, placed on all devices so that calls need not transfer it."""
    sharding = _sharding(layout, PartitionSpec())
    return [tree if sharding is None else jax.device_put(tree, sharding)] * layout.num_batches


def placed(tree: Any, layout: Layout, *, same: bool = False) -> Any:
    """Shapes, dtypes and shardings of a program's result, leaves ``[layout.batch_size, ...]``.

    With ``same``, all devices have the same values, as by ``repeat``.
    """
    shardings = _sharding(layout, PartitionSpec()) if same else _shardings(tree, layout)
    if shardings is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

    def leaf(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(leaf, tree, jax.tree.broadcast(shardings, tree))


def _shardings(tree: Any, layout: Layout) -> Any:
    """``_specs`` on the devices of a layout; None if it has only one device."""
    if layout.devices == 1:
        return None
    mesh = _mesh(layout)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), _specs(tree, layout))


def _sharding(layout: Layout, spec: PartitionSpec) -> NamedSharding | None:
    """Sharding over the devices of a layout; None if it has only one device."""
    return NamedSharding(_mesh(layout), spec) if layout.devices > 1 else None


def gather(batches: Sequence[Any], layout: Layout) -> Any:
    """Joins batches to leaves ``[replicas, ...]`` on the first device: the inverse of ``shard``."""
    device = jax.local_devices()[0]

    def whole(*parts: Any) -> Any:
        parts = tuple(jax.device_put(x, device) for x in parts)
        return (parts[0] if len(parts) == 1 else jnp.concatenate(parts))[: layout.replicas]

    return jax.tree.map(whole, *batches)
