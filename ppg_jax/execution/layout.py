"""Decides how replicas are distributed over the devices and cores of this machine."""

import contextlib
import dataclasses
import math
import os
from typing import Literal

import jax
import jax.numpy as jnp

from ppg_jax.algorithm import build
from ppg_jax.backend import Backend, this_backend
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import live_outside

VMAP_LIMIT = 128
"""Largest number of replicas that ``auto`` vmaps on an accelerator; more run in chunks."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How replicas run, and on how many devices.

    Attributes:
      strategy: ``vmap`` (all together), ``map`` (one after another) or ``chunk`` (groups of
        ``chunk_size``, one group after another).
      devices: number of JAX devices that share the replicas. Each runs its part by the strategy.
      chunk_size: number of replicas that run together on a device.
      replicas: number of replicas.
      workers: number of batches that run at the same time, each called by its own thread. It is
        above 1 only on CPU.
      backend: how the programs are built.
    """

    strategy: Literal["vmap", "map", "chunk"]
    devices: int
    chunk_size: int
    replicas: int
    workers: int = 1
    backend: Backend = dataclasses.field(default_factory=this_backend)

    @property
    def batch_size(self) -> int:
        """Number of replicas that one call runs, on all devices together."""
        return self.chunk_size * self.devices

    @property
    def num_batches(self) -> int:
        """Number of batches for all replicas. The last one may not be full."""
        return math.ceil(self.replicas / self.batch_size)

    def __str__(self) -> str:
        how = f"{self.strategy} of {self.chunk_size}" if self.strategy == "chunk" else self.strategy
        if self.workers > 1:
            return f"{how}, {self.workers} at a time"
        return how + (f" on {self.devices} devices" if self.devices > 1 else "")


def by_threads(config: Config) -> bool:
    """Whether threads share the replicas, instead of JAX devices.

    This is so on CPU, where JAX computes on all cores however many devices it counts. But ``vmap``
    is a single call, which only devices can share.
    """
    return this_backend().threads and config.strategy != "vmap"


def choose_layout(config: Config, replicas: int, cores: int | None = None) -> Layout:
    """Chooses the layout of a number of replicas on this machine.

    If the configuration sets no strategy, it is chosen like this:

    - On CPU ``map``. One replica keeps a core busy, and batching over parameters makes its matrix
      products, convolutions and working set slower (``benchmarks/seeds.py``). As many threads call
      the program as there are cores. Only ``vmap`` is spread over JAX's devices.
    - If the environments live outside of the program, ``map`` everywhere.
    - Elsewhere ``vmap``, on as many devices as shorten the run, because small networks leave most
      of an accelerator idle. If a device would get more than ``VMAP_LIMIT`` replicas, or more than
      may fit into its memory, ``chunk``.

    Args:
      config: configuration to train.
      replicas: number of replicas.
      cores: number of CPU cores; default: the number of JAX devices.

    Raises:
      ConfigError: the environment of ``config`` cannot be made, or cannot be vmapped.
    """
    strategy = config.strategy
    if strategy == "auto" and this_backend().threads:
        strategy = "map"
    elif strategy == "auto" and config.chunk_size:
        strategy = "chunk"
    if live_outside(build(config).env):
        strategy = _one_by_one(config)
    devices = workers = 1
    if by_threads(config):
        workers = min(config.devices or cores or jax.local_device_count(), replicas)
    else:
        devices = min(config.devices or jax.local_device_count(), replicas)
        if config.devices is None:  # nine replicas take as long on eight devices as on five
            devices = math.ceil(replicas / math.ceil(replicas / devices))
    share = math.ceil(replicas / devices / workers)
    together = _most_together(config) if strategy in ("auto", "chunk") else 1
    if strategy == "auto":
        strategy = "vmap" if share <= together else "chunk"
    size = {"map": 1, "vmap": share, "chunk": min(config.chunk_size or together, share)}[strategy]
    if strategy == "chunk":  # make chunks as equal as possible
        size = math.ceil(share / math.ceil(share / size))
    layout = Layout(strategy, devices, size, replicas, workers)
    return dataclasses.replace(layout, workers=min(workers, layout.num_batches))


def _one_by_one(config: Config) -> Literal["map"]:
    """The strategy for environments outside of the program, which cannot be vmapped.

    Raises:
      ConfigError: the configuration has another strategy.
    """
    if config.strategy not in ("auto", "map"):
        raise ConfigError(
            f"strategy: {config.strategy} is invalid, because the environments of "
            f"{config.env_name} live outside of the program and cannot be vmapped; use map"
        )
    return "map"


def _most_together(config: Config) -> int:
    """Number of replicas to run together: their stored data fills at most half of the memory."""
    memory = _device_memory()
    if memory is None:
        return VMAP_LIMIT
    seen = build(config).env.observation
    observation = math.prod(seen.shape) * jnp.dtype(seen.dtype).itemsize
    # A rollout stores each observation, its successor, and about sixteen other numbers.
    each = config.steps_per_iteration * (2 * observation + 64)
    if config.e_aux:
        each += config.n_pi * config.steps_per_iteration * observation
    return max(1, min(VMAP_LIMIT, memory // 2 // each))


def _device_memory() -> int | None:
    """Bytes of a device's memory that JAX may use; None if JAX does not tell."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


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

    This is done for every layout. The compilation cache distinguishes programs by the number of
    devices, and a later call in the same process may need all devices.

    Raises:
      ConfigError: ``devices`` is larger than what is available, or the environment cannot be made.
    """
    available, cores = use_all_cores(), _cores()
    what = f"JAX has {available} devices"
    if by_threads(config):
        available = max(available, cores)
        what = f"{available} can be used on this machine"
    elif this_backend().threads:
        what += (
            " (CPU cores become devices only before JAX's first computation: call "
            "ppg_jax.use_all_cores() early)"
        )
    if (config.devices or 1) > available:
        raise ConfigError(
            f"devices: {config.devices} is invalid; {what}; use fewer, or null for as many as "
            "shorten the run"
        )
    return choose_layout(config, replicas, cores)
