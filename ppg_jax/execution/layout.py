"""The layout of many trainings on a machine: together, one after another, or in chunks."""

import contextlib
import dataclasses
import math
import os
from typing import Literal

import jax
import jax.numpy as jnp

from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError

VMAP_LIMIT = 128
"""Most replicas that ``auto`` vmaps on an accelerator; more of them run in chunks."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where and how replicas run.

    Attributes:
      strategy: ``vmap`` (all together), ``map`` (one after another) or ``chunk`` (vmapped chunks,
        one after another).
      devices: number of JAX devices that share the replicas. Each runs its part by the strategy.
      chunk_size: number of replicas that run together on a device.
      replicas: number of all replicas.
      workers: number of threads that call the program at the same time; 1 except on CPU.
    """

    strategy: Literal["vmap", "map", "chunk"]
    devices: int
    chunk_size: int
    replicas: int
    workers: int = 1

    @property
    def batch_size(self) -> int:
        """Number of replicas in one call, on all devices."""
        return self.chunk_size * self.devices

    @property
    def num_batches(self) -> int:
        """Number of calls for all replicas; the last batch may not be full."""
        return math.ceil(self.replicas / self.batch_size)

    def __str__(self) -> str:
        how = f"{self.strategy} of {self.chunk_size}" if self.strategy == "chunk" else self.strategy
        if self.workers > 1:
            return f"{how}, {self.workers} at a time"
        return how + (f" on {self.devices} devices" if self.devices > 1 else "")


def by_threads(config: Config) -> bool:
    """Whether threads share the replicas, instead of JAX devices.

    This is so on CPU, where JAX uses all cores for any number of devices. A ``vmap`` is a single
    call, which only devices can share.
    """
    return jax.default_backend() == "cpu" and config.strategy != "vmap"


def choose_layout(config: Config, replicas: int, cores: int | None = None) -> Layout:
    """Chooses how replicas of a configuration run on this machine.

    Where the configuration leaves a choice:

    - On CPU the strategy is ``map``. One replica keeps a core busy, and vmapping over parameters
      only makes matrix products, convolutions and cache use worse (``benchmarks/seeds.py``). As
      many threads call the program as there are cores.
    - Elsewhere it is ``vmap``, because small networks leave most of an accelerator idle, on as many
      devices as shorten the work. It is ``chunk`` if a device had more than ``VMAP_LIMIT`` replicas
      or more than its memory may hold.

    Args:
      config: what to train.
      replicas: number of trainings.
      cores: number of CPU cores; default the number of JAX devices.

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
    if strategy == "chunk":  # chunks of equal size, as far as possible
        size = math.ceil(share / math.ceil(share / size))
    layout = Layout(strategy, devices, size, replicas, workers)
    return dataclasses.replace(layout, workers=min(workers, layout.num_batches))


def _most_together(config: Config) -> int:
    """Most replicas to vmap on a device: a phase's data fills at most half of its memory."""
    memory = _device_memory()
    if memory is None:
        return VMAP_LIMIT
    seen = build(config).env.observation
    observation = math.prod(seen.shape) * jnp.dtype(seen.dtype).itemsize
    # A rollout holds each observation, its successor, and about sixteen other numbers.
    each = config.steps_per_iteration * (2 * observation + 64)
    if config.e_aux:
        each += config.n_pi * config.steps_per_iteration * observation
    return max(1, min(VMAP_LIMIT, memory // 2 // each))


def _device_memory() -> int | None:
    """Bytes of device memory that JAX may use; None if it does not say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def use_all_cores() -> int:
    """Makes every CPU core a JAX device, so that a ``vmap`` can be spread over them.

    JAX reads this setting once, before its first computation. Afterwards nothing changes. Nothing
    changes either if the number was set by hand (``JAX_NUM_CPU_DEVICES`` or ``XLA_FLAGS``).

    Returns:
      The number of devices of JAX's default backend.
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
    """``choose_layout`` after ``use_all_cores``.

    Cores always become devices. The compilation cache distinguishes programs by the number of
    devices, and a later call in the same process may need all of them.

    Raises:
      ConfigError: more devices than there are, or the environment cannot be made.
    """
    available, cores = use_all_cores(), _cores()
    what = f"JAX has {available} here"
    if by_threads(config):
        available = max(available, cores)
        what = f"{available} can work here"
    elif jax.default_backend() == "cpu":
        what += (
            " (CPU cores become devices only before JAX's first computation: call "
            "ppg_jax.use_all_cores() early)"
        )
    if (config.devices or 1) > available:
        raise ConfigError(
            f"devices: {config.devices} is invalid; {what}, and null takes all that are of use"
        )
    return choose_layout(config, replicas, cores)
