"""Decides how replicas are distributed over the devices and cores of this machine."""

import contextlib
import dataclasses
import math
import os
from typing import Literal

import jax

from ppg_jax.algorithm import build
from ppg_jax.backend import Backend, this_backend
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import live_outside

VMAP_LIMIT = 128
"""Largest number of replicas that ``auto`` vmaps on an accelerator; more run in chunks."""
ENV_AXIS = "env"
"""Name of the mesh axis over which the environments of a replica are spread."""
Strategy = Literal["auto", "vmap", "map", "chunk"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How replicas run, and on how many devices.

    Attributes:
      strategy: ``vmap`` (all together), ``map`` (one after another) or ``chunk`` (groups of
        ``chunk_size``, one group after another).
      devices: number of JAX devices that share the replicas.
      chunk_size: number of replicas that run together on a device, or on the devices that share
        their environments.
      replicas: number of replicas.
      workers: number of batches that run at the same time, each called by its own thread. It is
        above 1 only on CPU.
      backend: how the programs are built.
      devices_per_seed: number of devices that share the environments of a replica.
    """

    strategy: Literal["vmap", "map", "chunk"]
    devices: int
    chunk_size: int
    replicas: int
    workers: int = 1
    backend: Backend = dataclasses.field(default_factory=this_backend)
    devices_per_seed: int = 1

    @property
    def by_threads(self) -> bool:
        """Whether threads share the replicas, instead of JAX devices."""
        return self.devices_per_seed == 1 and _by_threads(self.backend, self.strategy)

    @property
    def places(self) -> int:
        """Number of devices, or of groups of devices, that each run replicas of their own."""
        return self.devices // self.devices_per_seed

    @property
    def env_axis(self) -> str | None:
        """Name of the mesh axis over which environments are spread; None if they are not."""
        return ENV_AXIS if self.devices_per_seed > 1 else None

    @property
    def batch_size(self) -> int:
        """Number of replicas that one call runs, on all devices together."""
        return self.chunk_size * self.places

    @property
    def num_batches(self) -> int:
        """Number of batches for all replicas. The last one may not be full."""
        return math.ceil(self.replicas / self.batch_size)

    def __str__(self) -> str:
        how = f"{self.strategy} of {self.chunk_size}" if self.strategy == "chunk" else self.strategy
        if self.workers > 1:
            return f"{how}, {self.workers} at a time"
        how += f" on {self.devices} devices" if self.devices > 1 else ""
        return how + (f", {self.devices_per_seed} for a seed" if self.devices_per_seed > 1 else "")


def _by_threads(backend: Backend, strategy: Strategy) -> bool:
    """Whether threads share the replicas, instead of JAX devices.

    This is so on CPU, where JAX computes on all cores however many devices it counts. But ``vmap``
    is a single call, which only devices can share.
    """
    return backend.threads and strategy != "vmap"


def choose_layout(
    config: Config, replicas: int, cores: int | None = None, backend: Backend | None = None
) -> Layout:
    """The layout of a number of replicas on this machine, if memory does not matter.

    It is the first of ``possible_layouts``.
    """
    return possible_layouts(config, replicas, cores, backend)[0]


def possible_layouts(
    config: Config, replicas: int, cores: int | None = None, backend: Backend | None = None
) -> tuple[Layout, ...]:
    """The layouts that the configuration allows, the preferred one first.

    There is only one, unless the configuration leaves the number of replicas that run together on
    an accelerator open. Then each layout runs half as many together as the one before it, down to
    one. ``fitting.plan_training`` takes the first one that fits into memory.

    If the configuration sets no strategy, it is chosen like this:

    - On CPU ``map``. One replica keeps a core busy, and batching over parameters makes its matrix
      products, convolutions and working set slower (``benchmarks/seeds.py``). As many threads call
      the program as there are cores. Only ``vmap`` is spread over JAX's devices.
    - If the environments live outside of the program, ``map`` everywhere.
    - Elsewhere ``vmap``, on as many devices as shorten the run, because small networks leave most
      of an accelerator idle. If a device gets more than ``VMAP_LIMIT`` replicas, or more than fit
      into its memory, ``chunk``.

    Args:
      config: configuration to train.
      replicas: number of replicas.
      cores: number of CPU cores; default: the number of JAX devices.
      backend: how the programs are built; None: as for the device that JAX computes on.

    Raises:
      ConfigError: the environment of ``config`` cannot be made, or cannot be vmapped.
    """
    backend = backend or this_backend()
    strategy = _strategy(config, backend)
    places, workers, each = 1, 1, config.devices_per_seed or 1
    if each == 1 and _by_threads(backend, strategy):
        workers = min(config.devices or cores or jax.local_device_count(), replicas)
    else:
        places = min((config.devices or jax.local_device_count()) // each, replicas)
        if config.devices is None:  # nine replicas take as long on eight devices as on five
            places = math.ceil(replicas / math.ceil(replicas / places))
    share = math.ceil(replicas / places / workers)

    def layout(size: int) -> Layout:
        whole: Literal["vmap", "chunk"] = "vmap" if size == share else "chunk"
        named = whole if strategy == "auto" else strategy
        found = Layout(named, places * each, size, replicas, workers, backend, each)
        return dataclasses.replace(found, workers=min(workers, found.num_batches))

    return tuple(layout(size) for size in _sizes(strategy, share, config.chunk_size))


def _strategy(config: Config, backend: Backend) -> Strategy:
    """The strategy; ``auto`` if it depends on the number of replicas that fit into memory.

    Raises:
      ConfigError: the environments live outside of the program and cannot be vmapped.
    """
    if live_outside(build(config, backend).env):
        if config.strategy not in ("auto", "map"):
            raise ConfigError(
                f"strategy: {config.strategy} is invalid, because the environments of "
                f"{config.env_name} live outside of the program and cannot be vmapped; use map"
            )
        return "map"
    if config.strategy == "auto" and backend.threads:
        return "map"
    if config.strategy == "auto" and config.chunk_size:
        return "chunk"
    return config.strategy


def _sizes(strategy: Strategy, share: int, chunk_size: int | None) -> list[int]:
    """Numbers of replicas that may run together on a device, the preferred one first.

    Chunks are as equal as possible: 129 replicas are 65 and 64 rather than 128 and 1.

    Args:
      strategy: strategy of the replicas.
      share: number of replicas of a device.
      chunk_size: largest size of a chunk, if the configuration sets it.
    """
    if strategy in ("map", "vmap"):
        return [1 if strategy == "map" else share]
    largest = min(chunk_size or VMAP_LIMIT, share)
    sizes = [math.ceil(share / math.ceil(share / largest))]
    while chunk_size is None and sizes[-1] > 1:
        sizes.append(math.ceil(sizes[-1] / 2))
    return sizes


def use_all_cores() -> int:
    """Makes every CPU core a JAX device, so that a ``vmap`` can be spread over them.

    JAX reads this setting once, before its first computation. After that, or if the user set the
    number (``JAX_NUM_CPU_DEVICES`` or ``XLA_FLAGS``), nothing changes.

    Returns:
      Number of devices of JAX's default backend.
    """
    by_hand = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    unset = jax.config.jax_num_cpu_devices < 0  # type: ignore[attr-defined]
    if unset and not by_hand:
        with contextlib.suppress(RuntimeError):  # a computation has already run
            jax.config.update("jax_num_cpu_devices", _cores())
    return jax.local_device_count()


def _cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lay_out(config: Config, replicas: int) -> Layout:
    """``choose_layout``, after making CPU cores JAX devices (``use_all_cores``).

    Raises:
      ConfigError: ``devices`` is larger than what is available, or the environment cannot be made.
    """
    return layouts_here(config, replicas)[0]


def devices_here(config: Config) -> int:
    """Number of devices, or of CPU cores if threads share the replicas, that can be used here."""
    available = use_all_cores()
    return max(available, _cores()) if _counts_cores(config, this_backend()) else available


def _counts_cores(config: Config, backend: Backend) -> bool:
    return config.devices_per_seed in (None, 1) and _by_threads(backend, config.strategy)


def layouts_here(config: Config, replicas: int) -> tuple[Layout, ...]:
    """``possible_layouts``, after making CPU cores JAX devices (``use_all_cores``).

    This is done for every layout. The compilation cache distinguishes programs by the number of
    devices, and a later call in the same process may need all devices.

    Raises:
      ConfigError: ``devices`` is larger than what is available, or the environment cannot be made.
    """
    available, cores, backend = devices_here(config), _cores(), this_backend()
    what = f"JAX has {available} devices"
    if _counts_cores(config, backend):
        what = f"{available} can be used on this machine"
    elif backend.threads:
        what += (
            " (CPU cores become devices only before JAX's first computation: call "
            "ppg_jax.use_all_cores() early)"
        )
    each = config.devices_per_seed or 1
    if (config.devices or 1) > available:
        raise ConfigError(
            f"devices: {config.devices} is invalid; {what}; use fewer, or null for as many as "
            "shorten the run"
        )
    if each > (config.devices or available):
        raise ConfigError(
            f"devices_per_seed: {each} is invalid; {what}; use fewer, or null for as many as "
            "shorten the run"
        )
    return possible_layouts(config, replicas, cores, backend)
