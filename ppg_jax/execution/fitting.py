"""Chooses the largest layout that fits into memory, by compiling the programs that will run.

``layout.possible_layouts`` names the layouts in order of preference. Here the first one is taken
that fits. A program's memory is asked of the compiler, not estimated. What is compiled here is kept
for the run (``program_cache``), so nothing is compiled twice.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from ppg_jax.algorithm import build, replay_difference, stored_shapes
from ppg_jax.backend import Backend, backend_for
from ppg_jax.config import Config, ConfigError
from ppg_jax.execution.layout import (
    Layout,
    layouts_here,
    possible_layouts,
    use_all_cores,
)
from ppg_jax.execution.memory import (
    TooLargeError,
    free_bytes,
    machine_bytes,
    readable,
    remedy,
    tree_bytes,
    used_bytes,
    what_runs,
)
from ppg_jax.execution.segments import Pace, compile_all, largest_program
from ppg_jax.execution.sharing import share_seeds


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Attributes:
      config: configuration with every choice that depends on memory made.
      layout: layout of the replicas.
      seconds: time of compiling the programs that were tried.
    """

    config: Config
    layout: Layout
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Training:
    """What the programs of a run depend on, besides the configuration and the layout.

    Attributes:
      replicas: number of replicas.
      shared: whether all replicas share the hyperparameters.
      done: number of phases completed in the state from which to continue; None: a new run.
      pace: how the run is split into segments.
    """

    replicas: int
    shared: bool = True
    done: int | None = None
    pace: Pace = Pace()  # noqa: RUF009, it is frozen


Needed = Callable[[Config, Layout], float]
"""Function of a configuration and a layout: bytes of a device, or infinity if it is unknown how
much more than a device has."""


def storages(config: Config) -> tuple[Config, ...]:
    """The configurations among which memory decides, the preferred one first.

    They differ in how the auxiliary data are stored.
    """
    if config.aux_storage != "auto":
        return (config,)
    names = ("full", "packed", "replay") if config.e_aux else ("full",)
    return tuple(config.replace(aux_storage=name) for name in names)


def plan_training(
    config: Config, training: Training, note: Callable[[str], None] = lambda _: None
) -> Plan:
    """Chooses how to train on this machine, so that it fits into memory.

    Programs are compiled only if there is something to choose, and only on an accelerator that
    reports its memory.

    Args:
      config: configuration to train, with networks as ``build`` resolves them. Otherwise the
        programs would be compiled again for the run.
      training: what else the programs depend on.
      note: called with a line of text before each compilation.

    Raises:
      ConfigError: not even one replica fits, or ``layouts_here`` raises it.
    """
    began = time.perf_counter()
    use_all_cores()
    config = share_seeds(config, training.replicas)
    layouts = layouts_here(config, training.replicas)
    configs = storages(config)
    if len(configs) == len(layouts) == 1:
        return Plan(configs[0], layouts[0])
    if layouts[0].backend.threads:
        return Plan(_by_shapes(configs, layouts[0]), layouts[0])
    limit = free_bytes(layouts[0])
    if limit is None:
        return Plan(configs[0], layouts[0])

    def needed(config: Config, layout: Layout) -> float:
        note(f"compiling {layout.chunk_size} together, to see if they fit into {readable(limit)}")
        return needed_bytes(config, layout, training)

    plan = first_that_fits(configs, layouts, skipping(needed, limit), limit)
    return dataclasses.replace(plan, seconds=time.perf_counter() - began)


def plan_for(config: Config, replicas: int, device: Any, limit: int) -> Plan:
    """What ``plan_training`` would choose on a machine with one device, which need not be here.

    Args:
      config: configuration to train.
      replicas: number of replicas.
      device: device to compile for, such as one of ``jax.experimental.topologies``.
      limit: bytes of the device that may be used.

    Raises:
      ConfigError: not even one replica fits.
    """
    began, backend = time.perf_counter(), backend_for(device.platform)
    config, training = config.replace(devices=1), Training(replicas)
    layouts = possible_layouts(config, replicas, backend=backend)

    def needed(config: Config, layout: Layout) -> float:
        return needed_bytes(config, layout, training, device)

    plan = first_that_fits(storages(config), layouts, skipping(needed, limit), limit)
    return dataclasses.replace(plan, seconds=time.perf_counter() - began)


def first_that_fits(
    configs: Sequence[Config], layouts: Sequence[Layout], needed: Needed, limit: int
) -> Plan:
    """The first layout that fits; and of several configurations the first with which it fits.

    With every configuration the layouts are tried from the largest on. The first configuration that
    fits with the largest layout is taken. If there is none, the one that fits with the largest.

    Args:
      configs: configurations, the preferred one first. Those that do not suit the environment are
        left out.
      layouts: layouts, the largest first.
      needed: what a configuration and a layout need.
      limit: bytes of a device that may be used.

    Raises:
      ConfigError: nothing fits.
    """
    best: Plan | None = None
    least = math.inf
    for config in _possible(configs, layouts[0].backend):
        for layout in layouts:
            if best is not None and layout.chunk_size <= best.layout.chunk_size:
                break
            need = needed(config, layout)
            least = min(least, need)
            if need <= limit:
                best = Plan(config, layout)
    if best is None:
        raise _nothing_fits(layouts[-1], least, limit)
    return best


def skipping(needed: Needed, limit: int) -> Needed:
    """``needed``, but what cannot fit by its shapes is not compiled."""

    sizes = functools.cache(replica_bytes)

    def bounded(config: Config, layout: Layout) -> float:
        state, stored = sizes(config, layout.backend)
        least = layout.chunk_size * (layout.num_batches * state + stored) // layout.devices_per_seed
        return least if least > limit else needed(config, layout)

    return bounded


def needed_bytes(config: Config, layout: Layout, training: Training, device: Any = None) -> float:
    """Bytes of each device that a training needs, from its largest program, compiled.

    Args:
      config: configuration to train.
      layout: layout of the replicas.
      training: what else the program depends on.
      device: device to compile for, which need not be here (``jax.experimental.topologies``);
        None: the devices of this process.

    Returns:
      The bytes; infinity if the compiler says that they are too many for the device.
    """
    largest = largest_program(
        config, layout, training.shared, done=training.done, pace=training.pace
    )
    if largest is None:
        return 0
    program, *arguments = largest
    if device is not None:
        place = jax.sharding.SingleDeviceSharding(device)
        arguments = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments
        )
    try:
        (compiled,) = compile_all([program], layout, *arguments)
    except TooLargeError:
        return math.inf
    return used_bytes(compiled, layout)


def replica_bytes(config: Config, backend: Backend) -> tuple[int, int]:
    """Bytes of the training state of one replica, and of its auxiliary data."""
    state, stored = stored_shapes(config, backend=backend)
    return tree_bytes(state), tree_bytes(stored)


def _possible(configs: Sequence[Config], backend: Backend) -> Iterator[Config]:
    """The configurations that suit the environment; what is wrong with the first is raised."""
    for config in configs:
        try:
            suits = _is_exact(config, backend)
        except ConfigError:
            if config is configs[0]:
                raise
            continue
        if suits or config is configs[0]:
            yield config


def _is_exact(config: Config, backend: Backend) -> bool:
    """Whether a storage saves memory, and gives the numbers of ``full`` bit for bit.

    Raises:
      ConfigError: the environment does not allow it.
    """
    ppg = build(config, backend)
    if config.aux_storage == "packed":
        return ppg.packing.active
    return config.aux_storage != "replay" or replay_difference(config, backend) == 0.0


def _by_shapes(configs: Sequence[Config], layout: Layout) -> Config:
    """The first configuration whose auxiliary data fill at most half of the machine's memory.

    If there is none, the one with the least data.
    """
    memory = machine_bytes()
    at_once = layout.batch_size * layout.workers
    if memory is None or len(configs) == 1 or _roughly(configs[0]) * at_once <= memory // 8:
        return configs[0]
    best, least = configs[0], math.inf
    for config in _possible(configs, layout.backend):
        size = replica_bytes(config, layout.backend)[1] * at_once
        if size < least:
            best, least = config, size
        if size <= memory // 2:
            break
    return best


def _roughly(config: Config) -> int:
    """About how many bytes the auxiliary data of one replica take in full, without tracing."""
    seen = build(config).env.observation
    parts = [part for part in (seen, seen.value) if part is not None]
    each = sum(math.prod(part.shape) * jax.numpy.dtype(part.dtype).itemsize for part in parts)
    return config.n_pi * config.steps_per_iteration * (each + 64)


def _nothing_fits(layout: Layout, least: float, limit: int) -> TooLargeError:
    """The error if even the smallest layout does not fit."""
    needs = "more memory than a device has" if math.isinf(least) else readable(least)
    return TooLargeError(
        f"memory: {what_runs(layout)} need {needs}; {readable(limit)} can be used; use "
        f"{remedy(layout)}"
    )
